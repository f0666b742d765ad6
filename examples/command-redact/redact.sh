#!/bin/sh
# Takes e-mail addresses out of a text: redact.sh INPUT PARAMS OUTPUT.
# OUTPUT becomes a folder with two files, each of which is an output of the job: the text, and what was taken out.
set -eu
input=$1 params=$2 output=$3
address='[[:alnum:]._%+-]\{1,64\}@[[:alnum:].-]\{1,253\}'

if grep -aqxv '.*' "$input"; then
    echo "The text isn't UTF-8." >&2
    exit 65 # the file is at fault; Gristmill shows the first line above to the user
fi
# The parameters have been checked against their schema, so that this finds a simple word or nothing.
mask=$(sed -n 's/.*"mask": *"\([A-Z]*\)".*/\1/p' "$params")

mkdir "$output"
sed "s/$address/[${mask:-REDACTED}]/g" "$input" > "$output/redacted.txt"
grep -o "$address" "$input" | sort | uniq -c | sort -rn > "$output/found.txt" || true
