with feedback as (
    select
        cast(raw_feedback.feedback_id as varchar) as feedback_id,
        cast(raw_feedback.vendor_id as varchar) as vendor_id,
        cast(raw_feedback.vendor_title as varchar) as vendor_title,
        normalise_title(cast(raw_feedback.vendor_title as varchar)) as normalised_title,
        cast(raw_feedback.product_id as varchar) as product_id,
        coalesce(cast(raw_feedback.rejected_product_ids as varchar[]), []) as rejected_product_ids,
        cast(raw_feedback.answered_by as varchar) as answered_by,
        cast(raw_feedback.answered_at as timestamptz) as answered_at,
        products.product_id is not null as is_known_product
    from {{ source('raw', 'feedback') }} as raw_feedback
    left join {{ ref('stg_products') }} as products
        on cast(raw_feedback.product_id as varchar) = products.product_id
),

ranked as (
    select
        *,
        row_number() over (
            partition by vendor_id, normalised_title
            order by answered_at desc, feedback_id desc
        ) as recency
    from feedback
    -- "Matches nothing" is an answer; a product that is no longer in the catalog is not.
    where normalised_title <> '' and (product_id is null or is_known_product)
)

select
    feedback_id,
    vendor_id,
    vendor_title,
    normalised_title,
    product_id,
    rejected_product_ids,
    answered_by,
    answered_at
from ranked
where recency = 1
order by vendor_id, normalised_title
