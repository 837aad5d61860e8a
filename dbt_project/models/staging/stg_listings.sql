with listings as (
    select
        cast(listing_id as varchar) as listing_id,
        nullif(trim(cast(title as varchar)), '') as title,
        nullif(trim(cast(description as varchar)), '') as description,
        {{ categories_in('category') }} as given,
        nullif(trim(cast(image as varchar)), '') as image,
        nullif(trim(cast(seller_id as varchar)), '') as seller_id
    from {{ source('raw', 'listings') }}
),

labelled as (
    {{ merged_categories('listings', 'listing_id', 'given') }}
)

select
    listings.listing_id,
    listings.title,
    listings.description,
    coalesce(normalise_title(listings.title), '') as normalised_title,
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
