{% macro category_path(column) -%}
    {#- A category path with single separators, null where nothing is left; clean_path in Python does the same. -#}
    nullif(regexp_replace(trim(cast({{ column }} as varchar), ' >'), '\s*>\s*', ' > ', 'g'), '')
{%- endmacro %}


{% macro categories_in(column) -%}
    {#- The paths of a cell "A > B | C" as a list; split_categories in Python does the same. -#}
    string_split_regex(trim(cast({{ column }} as varchar)), '\s+\|\s+')
{%- endmacro %}


{% macro merged_categories(relation, key, given) -%}
    {#- By key, the list of categories that the paths in the list `given` count as: each once, in the order given. -#}
    select
        named.{{ key }},
        list(named.counts_as order by named.place) as categories
    from (
        select
            one.{{ key }},
            categories.counts_as,
            min(one.place) as place
        from (
            select
                {{ key }},
                unnest({{ given }}) as path,
                generate_subscripts({{ given }}, 1) as place
            from {{ relation }}
        ) as one
        inner join {{ ref('stg_categories') }} as categories
            on {{ category_path('one.path') }} = categories.category
        group by one.{{ key }}, categories.counts_as
    ) as named
    group by named.{{ key }}
{%- endmacro %}


{% macro text_group(normalised_title, description, id) -%}
    {#- The same for texts that say the same; one that says nothing is like no other. group_ids in Python agrees. -#}
    md5(
        {{ normalised_title }} || chr(31) || normalise_title(coalesce({{ description }}, ''))
        || case
            when {{ normalised_title }} = '' and normalise_title(coalesce({{ description }}, '')) = ''
                then chr(31) || {{ id }}
            else ''
        end
    )
{%- endmacro %}
