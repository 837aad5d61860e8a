with mappings as (
    select
        cast(raw_mappings.mapping_id as varchar) as mapping_id,
        cast(raw_mappings.vendor_id as varchar) as vendor_id,
        cast(raw_mappings.vendor_title as varchar) as vendor_title,
        normalise_title(cast(raw_mappings.vendor_title as varchar)) as normalised_title,
        cast(raw_mappings.product_id as varchar) as product_id,
        cast(raw_mappings.source_row as bigint) as source_row
    from {{ source('raw', 'mappings') }} as raw_mappings
    -- A mapping to a product that is not in the catalog says nothing that could be learned.
    inner join {{ ref('stg_products') }} as products
        on cast(raw_mappings.product_id as varchar) = products.product_id
),

counted as (
    select
        *,
        count(*) over (partition by vendor_id, normalised_title, product_id) as n_rows
    from mappings
    where normalised_title <> ''
),

-- Where a vendor's line was mapped to several products, most decisions win, then the latest one.
ranked as (
    select
        *,
        row_number() over (
            partition by vendor_id, normalised_title
            order by n_rows desc, source_row desc, mapping_id desc
        ) as preference
    from counted
)

select
    mapping_id,
    vendor_id,
    vendor_title,
    normalised_title,
    product_id,
    n_rows
from ranked
where preference = 1
order by vendor_id, normalised_title
