with mappings as (
    select
        vendor_id,
        vendor_title,
        normalised_title,
        product_id
    from {{ ref('stg_mappings') }}
),

feedback as (
    select
        vendor_id,
        vendor_title,
        normalised_title,
        product_id,
        rejected_product_ids
    from {{ ref('stg_feedback') }}
),

-- A person's answer stands above the mapping of the same line; "matches nothing" takes the mapping away.
labelled as (
    select
        mappings.vendor_id,
        mappings.vendor_title,
        mappings.normalised_title,
        mappings.product_id,
        cast([] as varchar[]) as rejected_product_ids,
        'mapping' as source
    from mappings
    left join feedback
        on
            mappings.vendor_id = feedback.vendor_id
            and mappings.normalised_title = feedback.normalised_title
    where feedback.vendor_id is null
    union all
    select
        vendor_id,
        vendor_title,
        normalised_title,
        product_id,
        rejected_product_ids,
        'feedback' as source
    from feedback
    where product_id is not null
)

select
    -- The separator keeps ('a', 'bc') and ('ab', 'c') apart.
    md5(labelled.vendor_id || chr(31) || labelled.normalised_title) as line_id,
    labelled.vendor_id,
    labelled.vendor_title,
    labelled.normalised_title,
    labelled.product_id,
    products.title as product_title,
    products.category,
    labelled.rejected_product_ids,
    labelled.source
from labelled
inner join {{ ref('stg_products') }} as products
    on labelled.product_id = products.product_id
order by line_id
