"""render-network.py CONFIG: what each renderer of the cloud-init on PYTHONPATH writes, as JSON {renderer: text}."""
import importlib
import json
import os
import sys
import tempfile

import yaml
from cloudinit.distros import rhel
from cloudinit.net import network_state

settings = {
    "eni": {"eni_path": "etc/network/interfaces", "eni_header": ""},
    "netplan": {"netplan_path": "etc/netplan/50-cloud-init.yaml", "postcmds": False},
    "networkd": {},
    "sysconfig": rhel.Distro.renderer_configs["sysconfig"],
    "network_manager": {},
}


def render(name, config):
    module = importlib.import_module("cloudinit.net." + name)
    renderer = module.Renderer(dict(settings[name]))
    try:
        state = network_state.parse_net_config_data(config, renderer=renderer)
    except TypeError:  # before 22.1
        state = network_state.parse_net_config_data(config)
    found = []
    with tempfile.TemporaryDirectory() as target:
        renderer.render_network_state(state, target=target)
        for folder, _, files in sorted(os.walk(target)):
            for file in sorted(files):
                with open(os.path.join(folder, file)) as text:
                    found.append(text.read())
    return "\n".join(found)


with open(sys.argv[1]) as source:
    config = yaml.safe_load(source)
results = {}
for name in settings:
    if importlib.util.find_spec("cloudinit.net." + name) is None:
        continue  # added by a later release
    results[name] = render(name, config)
print(json.dumps(results))
