{% macro generate_schema_name(custom_schema_name, node) -%}
    {#- The schema is the first part of the asset key and the folder in the lake: staging, marts. -#}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}
