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
            {%- set table = graph.sources.get(id) or graph.nodes[id] -%}
            {%- set seed = table.resource_type == 'seed' -%}
            {%- set file = seed_file(table) if seed else lake_table(table.schema, table.name) -%}
            {%- set read = 'read_csv' if seed else 'read_parquet' -%}
            {%- set how = ', header = true, all_varchar = true' if seed else '' %}
create schema if not exists {{ table.schema }};
create or replace view {{ table.relation_name }} as
select * from {{ read }}('{{ file | replace("'", "''") }}'{{ how }});
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}


{% macro lake_table(schema, name) -%}
    {{ var('lake', '../lake') }}/tables/{{ schema }}/{{ name }}.parquet
{%- endmacro %}


{% macro seed_file(seed) -%}
    {{ var('project', seed.root_path) }}/{{ seed.original_file_path }}
{%- endmacro %}
