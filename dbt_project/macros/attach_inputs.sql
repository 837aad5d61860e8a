{% macro attach_inputs() %}
    {#-
        Views over the Parquet of everything that the selected nodes read but that is not built in this run. It makes
        `dbt build --select vendor_statistics` work on an empty scratch database, and gives sources a schema to be
        looked up in, which column lineage needs. A seed is read from its file: what people wrote there counts at once.
    -#}
    {%- if execute -%}
        {%- set attached = [] -%}
        {%- for id in selected_resources -%}
            {%- for parent in graph.nodes.get(id, {}).get('depends_on', {}).get('nodes', []) -%}
                {%- if parent not in selected_resources and parent not in attached -%}
                    {%- do attached.append(parent) -%}
                {%- endif -%}
            {%- endfor -%}
        {%- endfor -%}
        {%- for id in attached | sort -%}
            {%- set table = graph.sources.get(id) or graph.nodes[id] %}
create schema if not exists {{ table.schema }};
create or replace view {{ table.relation_name }} as
{% if table.resource_type == 'seed' -%}
select * from read_csv('{{ seed_file(table) | replace("'", "''") }}', header = true, all_varchar = true);
{%- else -%}
select * from read_parquet('{{ lake_table(table.schema, table.name) | replace("'", "''") }}');
{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}


{% macro lake_table(schema, name) -%}
    {{ var('lake', '../lake') }}/tables/{{ schema }}/{{ name }}.parquet
{%- endmacro %}


{% macro seed_file(seed) -%}
    {{ var('project', seed.root_path) }}/{{ seed.original_file_path }}
{%- endmacro %}
