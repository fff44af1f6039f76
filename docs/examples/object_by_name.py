"""Any object by its name, every byte verified: here what the operator signed about a model.

python docs/examples/object_by_name.py /ndn-infer/local/catalog/model/smollm2-135m-instruct
"""

import sys

import ndn_infer

with ndn_infer.connect_sync() as network:
    try:
        found = network.get(sys.argv[1])
    except ndn_infer.NdnInferError as error:
        sys.exit(f"{error}\n  {error.hint}")
    print(found.name)
    print(f"{found.kind}, {len(found.content)} bytes, from: {found.source}")
    print(f"signed by {found.signer}")
