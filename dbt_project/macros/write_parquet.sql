{% macro write_parquet() -%}
    {#-
        The model as one Parquet file. dbt-duckdb's `external` materialization is not used, because it writes a row of
        nulls into the file of an empty model (only its own view hides it), and other readers would see that row.
    -#}
    copy {{ this }} to '{{ var("output", "target") | replace("'", "''") }}/{{ this.schema }}.{{ this.identifier }}.parquet'
    (format parquet, compression zstd)
{%- endmacro %}
