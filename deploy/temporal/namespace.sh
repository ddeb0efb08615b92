#!/bin/sh
# Makes the namespace and the search attributes; safe to run on every start.
set -eu
temporal operator namespace describe -n "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 \
  || temporal operator namespace create -n "$TEMPORAL_NAMESPACE" --retention 72h

attribute() {
  temporal operator search-attribute list -n "$TEMPORAL_NAMESPACE" | grep -qw "$1" \
    || temporal operator search-attribute create -n "$TEMPORAL_NAMESPACE" --name "$1" --type "$2"
}
attribute Operator Keyword
attribute Station Keyword
attribute Stage Keyword
attribute BusinessNo Keyword
attribute NeedsPerson Bool
