with answers as (
    select
        cast(answer_id as varchar) as answer_id,
        cast(vendor_id as varchar) as vendor_id,
        cast(title as varchar) as title,
        nullif(trim(cast(description as varchar)), '') as description,
        normalise_title(cast(title as varchar)) as normalised_title,
        {{ categories_in('category') }} as given,
        cast(answered_by as varchar) as answered_by,
        cast(answered_at as timestamptz) as answered_at
    from {{ source('raw', 'category_feedback') }}
    -- "None of those shown" says what is wrong and not what is right.
    where category is not null
),

grouped as (
    select
        *,
        {{ text_group('normalised_title', 'description', 'answer_id') }} as group_id
    from answers
),

-- Of several answers to one text the latest counts, of several at the same moment the one with the greatest id.
ranked as (
    select
        *,
        row_number() over (partition by group_id order by answered_at desc, answer_id desc) as standing,
        count(*) over (partition by group_id) as n_answers
    from grouped
),

labelled as (
    {{ merged_categories('ranked', 'answer_id', 'given') }}
)

select
    ranked.answer_id,
    ranked.group_id,
    ranked.vendor_id,
    ranked.title,
    ranked.description,
    ranked.normalised_title,
    labelled.categories,
    ranked.answered_by,
    ranked.answered_at,
    ranked.n_answers
from ranked
inner join labelled
    on ranked.answer_id = labelled.answer_id
where ranked.standing = 1
order by ranked.answer_id
