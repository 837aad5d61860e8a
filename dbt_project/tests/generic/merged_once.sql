{% test merged_once(model, category, merged_into) %}
-- Rows that lead to another row, or back to themselves: a path is moved once, so their order would matter.
select
    moved.{{ category }},
    moved.{{ merged_into }},
    further.{{ category }} as merged_again,
    further.{{ merged_into }} as merged_again_into
from {{ model }} as moved
inner join {{ model }} as further
    on starts_with(
        {{ category_path('moved.' ~ merged_into) }} || ' > ', {{ category_path('further.' ~ category) }} || ' > '
    )
{% endtest %}
