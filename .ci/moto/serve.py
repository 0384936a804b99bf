"""moto_server with what EC2 does and moto does not (yet), where the pipeline relies on it.

Each patch names the page of the EC2 API reference that says so. Run as: serve.py -H HOST -p PORT; with AGENTS_PORT in the
environment, Run Command runs on machines whose agents ask on that port; with CALLS_LOG, every call is written into that file, as
`ACCESS_KEY ec2:RunInstances us-east-1`; with LATENCY_MS, every answer comes so late; with COPY_SECONDS, copies are pending so long.
"""

import os
import sys
import threading
import time

import agents
from moto.core.responses import ActionResult, BaseResponse
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.amis import AmiBackend
from moto.ec2.models.elastic_block_store import EBSBackend
from moto.ec2.responses.amis import AmisResponse
from moto.ec2.responses.instances import InstanceResponse
from moto.server import main


class DuplicateName(EC2ClientError):
    """CreateImage, CopyImage: a name is unique among the images of an account in a region."""

    def __init__(self, name, ami):
        super().__init__("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {ami.id}")


def tags_of(specifications, kind):
    return [t for s in specifications if s["ResourceType"] == kind for t in s["Tags"]]


def refuse_taken_name(backend, name):
    for ami in backend.amis.values():
        if ami.name == name and ami.owner_id == backend.account_id:
            raise DuplicateName(name, ami)


def create_image(self):
    """CreateImage: TagSpecification.N also for snapshots; unique names."""
    self.error_on_dryrun()
    backend, name = self.ec2_backend, self._get_param("Name")
    specifications = self._get_param("TagSpecifications", [])
    refuse_taken_name(backend, name)
    images = [s for s in specifications if s["ResourceType"] == "image"]
    ami = AmiBackend.create_image(
        backend, self._get_param("InstanceId"), name, self._get_param("Description", ""), tag_specifications=images
    )
    for tag in tags_of(specifications, "snapshot"):
        ami.ebs_snapshot.add_tag(tag["Key"], tag["Value"])
    return ActionResult({"ImageId": ami.id})


def copy_image(self):
    """CopyImage: ClientToken, CopyImageTags, TagSpecification.N."""
    self.error_on_dryrun()
    backend, token = self.ec2_backend, self._get_param("ClientToken")
    known = backend.__dict__.setdefault("copies_by_token", {})
    if token and known.get(token) in backend.amis:
        return ActionResult({"ImageId": known[token]})
    name, region = self._get_param("Name"), self._get_param("SourceRegion")
    refuse_taken_name(backend, name)
    source_id = self._get_param("SourceImageId")
    ami = backend.copy_image(source_id, region, name, self._get_param("Description"))
    if self._get_param("CopyImageTags"):
        from moto.ec2.models import ec2_backends

        source = ec2_backends[backend.account_id][region].amis[source_id]
        for tag in source.get_tags():
            ami.add_tag(tag["key"], tag["value"])
    specifications = self._get_param("TagSpecifications", [])
    for tag in tags_of(specifications, "image"):
        ami.add_tag(tag["Key"], tag["Value"])
    for tag in tags_of(specifications, "snapshot"):
        ami.ebs_snapshot.add_tag(tag["Key"], tag["Value"])
    take_a_while(ami, "state", "pending")
    if token:
        known[token] = ami.id
    return ActionResult({"ImageId": ami.id})


def take_a_while(thing, attribute, meanwhile):
    """Copies are not there at once."""
    seconds = float(os.environ.get("COPY_SECONDS", "0"))
    if seconds:
        then = getattr(thing, attribute)
        setattr(thing, attribute, meanwhile)
        timer = threading.Timer(seconds, setattr, (thing, attribute, then))
        timer.daemon = True
        timer.start()


plain_copy_snapshot = EBSBackend.copy_snapshot


def copy_snapshot(self, *args, **kwargs):
    """CopySnapshot: `pending` first."""
    snapshot = plain_copy_snapshot(self, *args, **kwargs)
    take_a_while(snapshot, "status", "pending")
    return snapshot


plain_run_instances = InstanceResponse.run_instances


def run_instances(self):
    """RunInstances: the same ClientToken is the same reservation."""
    token = self._get_param("ClientToken")
    known = self.ec2_backend.__dict__.setdefault("runs_by_token", {})
    if token not in known:
        known[token] = plain_run_instances(self)
    return known[token]


plain_call_action = BaseResponse.call_action


def call_action(self):
    """Writes down who called what where, and takes the time a network takes."""
    time.sleep(float(os.environ.get("LATENCY_MS", "0")) / 1000)
    with open(os.environ["CALLS_LOG"], "a", encoding="utf-8") as log:
        log.write(f"{self.access_key} {self.service_name}:{self._get_action()} {self.region}\n")
    return plain_call_action(self)


AmisResponse.create_image = create_image
AmisResponse.copy_image = copy_image
EBSBackend.copy_snapshot = copy_snapshot
InstanceResponse.run_instances = run_instances

if __name__ == "__main__":
    if "AGENTS_PORT" in os.environ:
        agents.listen(int(os.environ["AGENTS_PORT"]))
    if "CALLS_LOG" in os.environ:
        BaseResponse.call_action = call_action
    main(sys.argv[1:])
