#!/usr/bin/env bash
# Packages both charts, signs them if there is a key, and pushes them to an OCI registry.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=infra/common.sh
source "$here/common.sh"

usage() {
  cat <<'TEXT'
infra/publish-charts.sh [OPTIONS] REGISTRY [-- OPTIONS OF HELM]
    REGISTRY                such as oci://ghcr.io/OWNER/REPOSITORY/charts
    --keyring FILE          sign with the first key in this file (gpg --export-secret-keys NAME > FILE)
    --passphrase-file FILE  passphrase of the key
Arguments after -- go to every call of a registry, for instance: -- --plain-http
A version that the registry has is not pushed again. If its files differ from the chart's, that is an error.
TEXT
}

registry='' keyring='' passphrase='' options=()
while (($#)); do
  case $1 in
    --keyring) keyring=$2 ;;
    --passphrase-file) passphrase=$2 ;;
    --) shift && options=("$@") && break ;;
    -h | --help) usage && exit ;;
    -*) usage >&2 && stop 1 "there is no option $1" 'see above' ;;
    *) registry=${1%/} && shift && continue ;;
  esac
  shift 2 || stop 1 "$1 has no value" 'see --help'
done
[[ $registry == oci://* ]] || stop 1 "the registry '$registry' is no address" 'write oci://HOST/PATH'
need helm https://helm.sh/docs/intro/install

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sign=()
if [[ $keyring ]]; then
  need gpg "Debian's gnupg"
  key=$(gpg --homedir "$folder" --no-autostart --show-keys --with-colons "$keyring" 2>/dev/null |
    awk -F: '$1 == "uid" && !name { name = $10 } END { print name }') || key=''
  [[ $key ]] || stop 1 "there is no key in $keyring" 'write one: gpg --export-secret-keys NAME > FILE'
  sign=(--sign --keyring "$keyring" --key "$key")
  [[ ! $passphrase ]] || sign+=(--passphrase-file "$passphrase")
fi

# Prints the files of a package as a folder.
unpacked() { # PACKAGE
  mkdir "$1.files" && tar --extract --gzip --file "$1" --directory "$1.files" && echo "$1.files"
}

for chart in jaeger hand-gesture-api; do
  version=$(sed -n 's/^version: //p' "$charts/$chart/Chart.yaml")
  address=$registry/$chart file=$chart-$version.tgz
  output=$(helm package "$charts/$chart" --destination "$folder" "${sign[@]}" 2>&1) ||
    stop 1 "cannot package the chart $chart: $output" 'see above; a key with a passphrase needs --passphrase-file'
  mkdir "$folder/there"
  if output=$(helm pull "$address" --version "$version" --destination "$folder/there" "${options[@]}" 2>&1); then
    diff --recursive "$(unpacked "$folder/there/$file")" "$(unpacked "$folder/$file")" ||
      stop 1 "the registry has another $chart $version" "raise version in infra/helm/$chart/Chart.yaml"
    say "$address:$version is there, with the same files"
  else
    # Whatever else stands in the way of a pull, a push could replace a version that is there.
    [[ $output == *'not found'* ]] || stop 1 "cannot tell if $address:$version is there: $output" 'helm registry login HOST'
    output=$(helm push "$folder/$file" "$registry" "${options[@]}" 2>&1) ||
      stop 1 "cannot push $address:$version: $output" 'helm registry login HOST'
    say "$address:$version is pushed${keyring:+, signed by $key}"
  fi
  rm -r "$folder/there"
done
