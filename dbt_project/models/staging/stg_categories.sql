with listed as (
    select unnest({{ categories_in('category') }}) as path
    from {{ source('raw', 'listings') }}
),

answered as (
    select unnest({{ categories_in('category') }}) as path
    from {{ source('raw', 'category_feedback') }}
),

used as (
    select
        {{ category_path('path') }} as category,
        1 as listing,
        0 as product
    from listed
    union all
    select
        {{ category_path('path') }} as category,
        0 as listing,
        0 as product
    from answered
    union all
    select
        category,
        0 as listing,
        1 as product
    from {{ ref('stg_products') }}
),

counted as (
    select
        category,
        cast(sum(listing) as bigint) as n_listings,
        cast(sum(product) as bigint) as n_products
    from used
    where category is not null
    group by category
),

mapping as (
    select
        {{ category_path('category') }} as category,
        {{ category_path('merged_into') }} as merged_into
    from {{ ref('category_mapping') }}
),

-- What lies below a merged category goes along; of several that fit, the longest path counts.
merged as (
    select
        counted.category,
        arg_max(
            mapping.merged_into || substr(counted.category, length(mapping.category) + 1), length(mapping.category)
        ) as merged_into
    from counted
    inner join mapping
        on starts_with(counted.category || ' > ', mapping.category || ' > ')
    group by counted.category
)

select
    counted.category,
    coalesce(merged.merged_into, counted.category) as counts_as,
    merged.merged_into is not null as is_merged,
    counted.n_listings,
    counted.n_products
from counted
left join merged
    on counted.category = merged.category
order by counted.category
