#!/bin/sh
# Writes CycloneDX bills of materials of the image mounted at /image into the folder /sbom:
# debian.cdx.json, and python.cdx.json if it has a virtual environment under /opt.
# Usage: sbom.sh NAME   (NAME is the image's, as the documents say it)
set -eu
debsbom generate --sbom-type cdx --root /image --distro-name "$1" --out /sbom/debian
for python in /image/opt/*/bin/python; do
  [ -e "$python" ] || continue
  cyclonedx-py environment --output-reproducible --output-format JSON \
    --output-file /sbom/python.cdx.json "$python"
done
