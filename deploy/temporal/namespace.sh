#!/bin/sh
# Makes the namespace and the search attributes; safe to run on every start.
set -eu
temporal operator namespace describe -n "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 \
  || temporal operator namespace create -n "$TEMPORAL_NAMESPACE" --retention 72h

# The server's other parts learn of a new namespace within seconds.
tries=0
until temporal operator search-attribute list -n "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || { echo "namespace $TEMPORAL_NAMESPACE does not appear" >&2; exit 1; }
  sleep 1
done

attribute() {
  temporal operator search-attribute list -n "$TEMPORAL_NAMESPACE" | grep -qw "$1" \
    || temporal operator search-attribute create -n "$TEMPORAL_NAMESPACE" --name "$1" --type "$2"
}
attribute Operator Keyword
attribute Station Keyword
attribute Stage Keyword
attribute BusinessNo Keyword
attribute NeedsPerson Bool
