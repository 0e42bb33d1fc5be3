// The CRDs of the Gateway API lie in this module's folder, config/crd. Nothing of it is built, so no
// `tool` line: tests ask Go for the folder. v1.7.0 needs a newer Go than the README asks for.
module mlops.mlflow/tools/gateway-api

go 1.26.0

require sigs.k8s.io/gateway-api v1.6.0
