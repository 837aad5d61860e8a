with listings as (
    select
        listing_id,
        title,
        description,
        normalised_title,
        text,
        categories,
        image,
        seller_id,
        'listing' as source
    from {{ ref('stg_listings') }}
    -- Nothing can be learned from what has neither words nor a picture.
    where text <> '' or image is not null
),

categories as (
    select
        category,
        counts_as
    from {{ ref('stg_categories') }}
),

-- Without labelled listings the catalog's own products stand in, those that have a category.
products as (
    select
        products.product_id as listing_id,
        products.title,
        products.description,
        products.normalised_title,
        concat_ws(chr(10), products.title, products.description) as text,
        [categories.counts_as] as categories,
        products.image,
        cast(null as varchar) as seller_id,
        'product' as source
    from {{ ref('stg_products') }} as products
    inner join categories
        on products.category = categories.category
    where not exists (select 1 from listings)
),

-- What people said about a category, and about a product, whose category it is, where listings know that category.
answers as (
    select
        'answer-' || answer_id as listing_id,
        title,
        description,
        normalised_title,
        concat_ws(chr(10), title, description) as text,
        categories,
        cast(null as varchar) as image,
        vendor_id as seller_id,
        'feedback' as source
    from {{ ref('stg_category_feedback') }}
    union all
    select
        'feedback-' || md5(feedback.vendor_id || chr(31) || feedback.normalised_title) as listing_id,
        feedback.vendor_title as title,
        cast(null as varchar) as description,
        feedback.normalised_title,
        feedback.vendor_title as text,
        [categories.counts_as] as categories,
        cast(null as varchar) as image,
        feedback.vendor_id as seller_id,
        'feedback' as source
    from {{ ref('stg_feedback') }} as feedback
    inner join {{ ref('stg_products') }} as products
        on feedback.product_id = products.product_id
    inner join categories
        on products.category = categories.category
    where
        categories.counts_as in (select unnest(listings.categories) from listings)
        or not exists (select 1 from listings)
),

labelled as (
    select * from listings
    union all
    select * from products
    union all
    select * from answers
),

grouped as (
    select
        *,
        {{ text_group('normalised_title', 'description', 'listing_id') }} as group_id
    from labelled
),

-- What a person said of a text stands above what sellers say of it.
corrected as (
    select
        grouped.* exclude (categories),
        coalesce(feedback.categories, grouped.categories) as categories
    from grouped
    left join {{ ref('stg_category_feedback') }} as feedback
        on grouped.group_id = feedback.group_id
),

-- Of listings that say the same under the same categories one is kept, and beside it those with another picture.
ranked as (
    select
        *,
        row_number() over (
            partition by group_id, categories, image
            order by case when source = 'listing' then 0 else 1 end, listing_id
        ) as standing,
        count(*) over (partition by group_id, categories, image) as n_rows,
        bool_or(image is not null) over (partition by group_id, categories) as is_pictured
    from corrected
)

select
    listing_id,
    title,
    description,
    normalised_title,
    text,
    categories[1] as category,
    categories,
    split_part(categories[1], ' > ', 1) as category_root,
    split_part(categories[1], ' > ', -1) as category_leaf,
    image,
    seller_id,
    group_id,
    n_rows,
    source
from ranked
where standing = 1 and (image is not null or not is_pictured)
order by listing_id
