"""Run Command for moto: commands of SendCommand run on real machines, whose agents poll for them over HTTP.

moto answers every command with an empty success. Here a command is pending until the instance's agent polls for it, as
amazon-ssm-agent does: GET /INSTANCE returns the next command, POST /INSTANCE/COMMAND sets its result, PUT /INSTANCE sets what
DescribeInstanceInformation returns for the node, and its tags, which moto does not support.
Limits as in the API reference: 24,000 characters of each stream, 64 KB of parameters, InvalidInstanceId for an instance whose
agent has never polled, InvocationDoesNotExist for a short time after a command was sent.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.ssm.responses import SimpleSystemManagerResponse

LOCK = threading.Lock()
HEARD, NODES, WAITING, COMMANDS = {}, {}, {}, {}
VISIBLE_AFTER = 0.2


class InvalidInstanceId(ServiceException):
    code = "InvalidInstanceId"


class InvocationDoesNotExist(ServiceException):
    code = "InvocationDoesNotExist"


class ValidationException(ServiceException):
    code = "ValidationException"


plain_send_command = SimpleSystemManagerResponse.send_command


def send_command(self):
    """SendCommand, for AWS-RunShellScript on up to 50 instances; sends to none of them if one is not online."""
    instances = self._get_param("InstanceIds")
    commands = self._get_param("Parameters")["commands"]
    if len(json.dumps(commands)) > 64 * 1024:
        raise ValidationException("the parameters are larger than 64 KB")
    if len(instances) > 50:
        raise ValidationException("InstanceIds: Member must have length less than or equal to 50")
    for instance in instances:
        if instance not in HEARD or NODES.get(instance, {}).get("PingStatus", "Online") != "Online":
            raise InvalidInstanceId(f"Instances not in a valid state for account: {instance}")
    answer = plain_send_command(self)
    command = answer.result["Command"]
    timeout = self._get_int_param("TimeoutSeconds") or 3600
    with LOCK:
        for instance in instances:
            sent = {"script": "\n".join(commands), "sent": time.time(), "timeout": timeout}
            COMMANDS[command["CommandId"], instance] = sent
            WAITING.setdefault(instance, []).append(command["CommandId"])
    command["Status"] = "Pending"
    return answer


def describe_instance_information(self):
    """DescribeInstanceInformation: the nodes that were PUT, by id or tag, in pages of MaxResults."""
    with LOCK:
        found = [{"InstanceId": id, **node} for id, node in sorted(NODES.items()) if node["Region"] == self.region]
    for filter in self._get_param("Filters", []):
        key, values = filter["Key"], filter["Values"]
        if key == "InstanceIds":
            found = [node for node in found if node["InstanceId"] in values]
        elif key.startswith("tag:"):
            found = [node for node in found if node["Tags"].get(key[4:]) in values]
        else:
            raise ValidationException(f"no filter {key}")
    start, most = int(self._get_param("NextToken") or 0), self._get_int_param("MaxResults") or 10
    answer = {"InstanceInformationList": found[start : start + most]}
    if start + most < len(found):
        answer["NextToken"] = str(start + most)
    return ActionResult(answer)


def get_command_invocation(self):
    """GetCommandInvocation: the result that the agent sent; until then, the status."""
    id, instance = self._get_param("CommandId"), self._get_param("InstanceId")
    with LOCK:
        command = COMMANDS.get((id, instance))
        if command is None or time.time() - command["sent"] < VISIBLE_AFTER:
            raise InvocationDoesNotExist(f"no invocation of {id} on {instance}")
        done, taken = command.get("done"), "taken" in command
        late = not taken and time.time() - command["sent"] > command["timeout"]
        if late and id in WAITING.get(instance, []):
            WAITING[instance].remove(id)
    status = "InProgress" if taken else "TimedOut" if late else "Pending"
    answer = {"CommandId": id, "InstanceId": instance, "ResponseCode": -1, "Status": status}
    if done:
        answer["Status"] = "Success" if done["code"] == 0 else "Failed"
        answer["ResponseCode"] = done["code"]
        answer["StandardOutputContent"] = done["stdout"][:24000]
        answer["StandardErrorContent"] = done["stderr"][:24000]
    return ActionResult(answer)


class Agents(BaseHTTPRequestHandler):
    """The HTTP API that agents poll."""

    def do_GET(self):
        instance = self.path.strip("/")
        with LOCK:
            HEARD[instance] = time.time()
            waiting = WAITING.get(instance) or []
            id = waiting.pop(0) if waiting else None
            if id:
                COMMANDS[id, instance]["taken"] = time.time()
        self.reply(json.dumps({"id": id, "script": COMMANDS[id, instance]["script"]}) if id else "")

    def do_POST(self):
        instance, id = self.path.strip("/").split("/")
        done = self.body()
        with LOCK:
            COMMANDS[id, instance]["done"] = done
        self.reply("")

    def do_PUT(self):
        node = self.body()
        with LOCK:
            HEARD[self.path.strip("/")] = time.time()
            NODES[self.path.strip("/")] = node
        self.reply("")

    def body(self):
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def reply(self, text):
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def listen(port):
    """Listens on a loopback port; a QEMU guest connects to it at 10.0.2.2."""
    SimpleSystemManagerResponse.send_command = send_command
    SimpleSystemManagerResponse.get_command_invocation = get_command_invocation
    SimpleSystemManagerResponse.describe_instance_information = describe_instance_information
    threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", port), Agents).serve_forever, daemon=True).start()
