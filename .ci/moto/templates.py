"""Descriptions of launch templates (EC2 API reference, DescribeLaunchTemplateVersions, DescribeLaunchTemplates).

A request without a template is allowed only for the versions `$Latest` and `$Default`; filters and pagination are supported.
"""

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses.launch_templates import LaunchTemplates

FILTERS = {
    "image-id": lambda template, version: version.data.get("ImageId", ""),
    "instance-type": lambda template, version: version.data.get("InstanceType", ""),
    "is-default-version": lambda template, version: str(template.is_default(version)).lower(),
}


def page(response: Any, items: list, most: int) -> tuple[list, str | None]:
    start, size = int(response._get_param("NextToken") or 0), int(response._get_param("MaxResults") or most)
    return items[start : start + size], str(start + size) if start + size < len(items) else None


def named(template: Any, requested: list[str]) -> list[Any]:
    """The requested versions of a template, each once; all versions if none is requested."""
    numbers = {template.get_version(r).number for r in requested} if requested else {v.number for v in template.versions}
    return [v for v in template.versions if v.number in numbers]


def describe_launch_template_versions(self: Any) -> ActionResult:
    backend, requested = self.ec2_backend, self._get_param("Versions", [])
    name, id = self._get_param("LaunchTemplateName"), self._get_param("LaunchTemplateId")
    if id or name:
        templates = [backend.get_launch_template(id) if id else backend.get_launch_template_by_name(name)]
    elif requested and all(r in ("$Latest", "$Default") for r in requested):
        templates = list(backend.launch_templates.values())
    else:
        code = "InvalidParameterValue" if requested else "MissingParameter"
        raise EC2ClientError(code, "without a launch template only the versions $Latest and $Default can be described")
    least, most = self._get_param("MinVersion"), self._get_param("MaxVersion")
    found = [
        (t, v)
        for t in templates
        for v in named(t, requested)
        if (not least or v.number >= int(least)) and (not most or v.number <= int(most))
    ]
    for filter, values in self._filters_from_querystring().items():
        if filter not in FILTERS:
            raise EC2ClientError("InvalidParameterValue", f"The filter '{filter}' is invalid")
        found = [(t, v) for t, v in found if FILTERS[filter](t, v) in values]
    shown, next_token = page(self, found, 200)
    versions = [
        {
            "CreateTime": v.create_time,
            "DefaultVersion": t.is_default(v),
            "LaunchTemplateData": v.data,
            "LaunchTemplateId": t.id,
            "LaunchTemplateName": t.name,
            "VersionDescription": v.description,
            "VersionNumber": v.number,
        }
        for t, v in shown
    ]
    return ActionResult({"LaunchTemplateVersions": versions, "NextToken": next_token})


def describe_launch_templates(self: Any) -> ActionResult:
    templates = self.ec2_backend.describe_launch_templates(
        template_names=self._get_param("LaunchTemplateNames", []),
        template_ids=self._get_param("LaunchTemplateIds", []),
        filters=self._filters_from_querystring(),
    )
    shown, next_token = page(self, templates, 200)
    described = [
        {
            "CreateTime": t.create_time,
            "DefaultVersionNumber": t.default_version_number,
            "LatestVersionNumber": t.latest_version_number,
            "LaunchTemplateId": t.id,
            "LaunchTemplateName": t.name,
            "Tags": t.tags,
        }
        for t in shown
    ]
    return ActionResult({"LaunchTemplates": described, "NextToken": next_token})


def install() -> None:
    LaunchTemplates.describe_launch_template_versions = describe_launch_template_versions
    LaunchTemplates.describe_launch_templates = describe_launch_templates
