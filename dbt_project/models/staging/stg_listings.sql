with listings as (
    select
        cast(listing_id as varchar) as listing_id,
        cast(title as varchar) as title,
        nullif(trim(cast(description as varchar)), '') as description,
        {{ categories_in('category') }} as given,
        nullif(trim(cast(image as varchar)), '') as image,
        nullif(trim(cast(seller_id as varchar)), '') as seller_id
    from {{ source('raw', 'listings') }}
),

-- One row for each right category of a listing, in the order of its cell.
labels as (
    select
        listing_id,
        unnest(given) as path,
        generate_subscripts(given, 1) as place
    from listings
),

merged as (
    select
        labels.listing_id,
        categories.counts_as,
        min(labels.place) as place
    from labels
    inner join {{ ref('stg_categories') }} as categories
        on {{ category_path('labels.path') }} = categories.category
    group by labels.listing_id, categories.counts_as
),

labelled as (
    select
        listing_id,
        list(counts_as order by place) as categories
    from merged
    group by listing_id
)

select
    listings.listing_id,
    listings.title,
    listings.description,
    normalise_title(listings.title) as normalised_title,
    concat_ws(chr(10), listings.title, listings.description) as text,
    labelled.categories[1] as category,
    labelled.categories,
    split_part(labelled.categories[1], ' > ', 1) as category_root,
    split_part(labelled.categories[1], ' > ', -1) as category_leaf,
    listings.image,
    listings.seller_id
from listings
inner join labelled
    on listings.listing_id = labelled.listing_id
order by listings.listing_id
