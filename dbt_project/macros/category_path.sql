{% macro category_path(column) -%}
    {#- A category path with single separators, null where nothing is left; clean_path in Python does the same. -#}
    nullif(regexp_replace(trim(cast({{ column }} as varchar), ' >'), '\s*>\s*', ' > ', 'g'), '')
{%- endmacro %}


{% macro categories_in(column) -%}
    {#- The paths of a cell "A > B | C" as a list; split_categories in Python does the same. -#}
    string_split_regex(trim(cast({{ column }} as varchar)), '\s+\|\s+')
{%- endmacro %}
