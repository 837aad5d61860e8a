select
    vendor_id,
    count(*) as n_lines,
    count(distinct product_id) as n_products,
    avg(length(vendor_title)) as mean_title_length,
    avg(case when regexp_matches(vendor_title, '[0-9]') then 1.0 else 0.0 end) as share_with_digits,
    avg(case when vendor_title = upper(vendor_title) and vendor_title <> lower(vendor_title) then 1.0 else 0.0 end)
        as share_upper,
    case when bool_or(source = 'feedback') then 'feedback' else 'mapping' end as last_source
from {{ ref('labelled_positives') }}
group by vendor_id
order by vendor_id
