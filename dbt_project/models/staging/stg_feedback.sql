with feedback as (
    select
        cast(raw_feedback.feedback_id as varchar) as feedback_id,
        cast(raw_feedback.answer_id as varchar) as answer_id,
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

usable as (
    select
        *,
        count(*) over (
            partition by vendor_id, normalised_title, answered_at, product_id
        ) as agreeing
    from feedback
    -- "Matches nothing" is an answer; a product that is no longer in the catalog is not.
    where normalised_title <> '' and (product_id is null or is_known_product)
),

-- The rule for contradictory answers, in Python in shelfwise/feedback/resolve.py: the latest one counts; of several at
-- the same moment the one that most of them give; of these the one with the greatest id.
ranked as (
    select
        *,
        row_number() over (
            partition by vendor_id, normalised_title
            order by answered_at desc, agreeing desc, answer_id desc
        ) as standing,
        count(*) over (partition by vendor_id, normalised_title) as n_answers,
        max(coalesce('=' || product_id, '')) over (partition by vendor_id, normalised_title)
        <> min(coalesce('=' || product_id, '')) over (partition by vendor_id, normalised_title) as is_contradicted
    from usable
)

select
    feedback_id,
    answer_id,
    vendor_id,
    vendor_title,
    normalised_title,
    product_id,
    rejected_product_ids,
    answered_by,
    answered_at,
    n_answers,
    is_contradicted
from ranked
where standing = 1
order by vendor_id, normalised_title
