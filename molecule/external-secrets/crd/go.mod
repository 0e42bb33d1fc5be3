// Names the version of External Secrets whose CRD the tests take; nothing of it is built. Its parts
// (apis, runtime, providers) are modules of their own without released versions, so that the
// operator cannot be built from modules alone.
module mlops.mlflow/external-secrets

go 1.25

require github.com/external-secrets/external-secrets v1.3.2
