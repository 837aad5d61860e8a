"""Pointing a test's processes at an S3 server on the loopback interface (the fixture `s3_url` starts one)."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
import s3fs


def point_at(url: str, patched: pytest.MonkeyPatch, *buckets: str) -> Any:
    """Set the usual AWS variables for a server, forget connections to another, make buckets; return a client."""
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        patched.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3", endpoint_url=url)
    for bucket in buckets:
        client.create_bucket(Bucket=bucket)
    return client


def remove(client: Any, bucket: str) -> None:
    """Delete a bucket with all that it holds."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        if items := [{"Key": item["Key"]} for item in page.get("Contents", [])]:
            client.delete_objects(Bucket=bucket, Delete={"Objects": items})
    client.delete_bucket(Bucket=bucket)
    s3fs.S3FileSystem.clear_instance_cache()
