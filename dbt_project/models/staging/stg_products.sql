with products as (
    select
        cast(product_id as varchar) as product_id,
        cast(title as varchar) as title,
        normalise_title(cast(title as varchar)) as normalised_title,
        nullif(trim(cast(brand as varchar)), '') as brand,
        nullif(regexp_replace(trim(cast(category as varchar), ' >'), '\s*>\s*', ' > ', 'g'), '') as category,
        nullif(trim(cast(description as varchar)), '') as description,
        cast(price as double) as price,
        nullif(trim(cast(size as varchar)), '') as size,
        nullif(trim(cast(image as varchar)), '') as image
    from {{ source('raw', 'products') }}
),

with_first as (
    select
        *,
        -- Two products are the same to a reader when title, brand and size are. A missing brand equals a missing one.
        min(product_id) over (
            partition by
                normalised_title,
                normalise_title(coalesce(brand, '')),
                normalise_title(coalesce(size, ''))
        ) as first_product_id
    from products
)

select
    product_id,
    title,
    normalised_title,
    brand,
    category,
    split_part(category, ' > ', 1) as category_root,
    split_part(category, ' > ', -1) as category_leaf,
    description,
    price,
    size,
    image,
    case
        when normalised_title = '' then null
        else nullif(first_product_id, product_id)
    end as same_title_as
from with_first
order by product_id
