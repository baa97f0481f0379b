#!/usr/bin/env bash
# Checks this archive with nothing but bash, openssl 3, jq and the tools that
# come with sha256sum. Run it at the top of a copy of the archive:
#
#   bash verify.sh [ARCHIVE-ID [SEQ HEAD [VERSION POLICY]]]
#
# ARCHIVE-ID is the digest of the archive's policy, as you noted it down outside
# the archive. SEQ and HEAD are the number and the digest of the newest manifest
# you have seen before, VERSION and POLICY those of the newest policy. Without
# them, whoever could replace the whole archive, or hide its newest snapshots,
# could do so unnoticed; the script says so.
#
# It checks signatures, the chain of manifests, every page, and the size and
# digest of every object. It does not look into the Parquet objects, nor into what
# was said later: notarizations, time stamps, receipts, which it counts.
#
# Exit codes: 0 good, 1 cannot run, 2 usage, 10 not signed as it must be,
# 11 the chain is broken or ends too early, 12 something is missing, 13 something
# is not what was signed, 15 something is over a limit, 16 a newer format.

set -u -o pipefail
export LC_ALL=C

# Computing a Merkle root takes three processes a chunk; above this many chunks
# in a table the root is left to faster tools.
root_limit=2000

# A policy has no more versions.
policy_limit=1000

zero=0000000000000000000000000000000000000000000000000000000000000000
re_hash='^[0-9a-f]{64}$'
re_snapshot='^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$'
re_table='^[A-Za-z_][A-Za-z0-9_]{0,254}([.]meta)?$'
re_chunk='^r[0-9]{4}(\.[1-9][0-9]{0,3})?-[0-9]{6}\.parquet$'
re_seq='^(0|[1-9][0-9]{0,7})$'
re_file='^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$'

fail() {
  local code=$1
  shift
  printf 'REFUSED: %s\n' "$*" >&2
  exit "$code"
}

cannot() {
  printf 'verify.sh: %s\n' "$*" >&2
  exit 1
}

sha256() {
  local sum
  sum=$(sha256sum) || cannot "sha256sum does not work"
  printf '%s' "${sum:0:64}"
}

# hex_bytes HEX writes the bytes.
hex_bytes() {
  local hex=$1 out= i
  for ((i = 0; i < ${#hex}; i += 2)); do out+="\\x${hex:i:2}"; done
  printf '%b' "$out"
}

# check_there FILE checks that an object is there. A link is none: what it leads to is
# not in the archive, and need not stay what it is.
check_there() {
  [ -f "$1" ] && [ ! -L "$1" ] || fail 12 "$1 is missing"
}

# check_file FILE SHA256 [SIZE] checks an object.
check_file() {
  local file=$1 want=$2 size=${3:-}
  check_there "$file"
  if [ -n "$size" ] && [ "$(($(wc -c <"$file")))" != "$size" ]; then
    fail 13 "$file has $(($(wc -c <"$file"))) bytes, $size were signed"
  fi
  [ "$(sha256 <"$file")" = "$want" ] || fail 13 "$file is not what was signed (sha256 $want)"
}

# ask [JQ-OPTIONS...] FILTER reads the document in $tmp/body.
ask() {
  jq -r "$@" "$tmp/body" || fail 13 "$doc does not hold what it must"
}

# holds WHAT [JQ-OPTIONS...] FILTER checks that the filter is true of $tmp/body.
holds() {
  jq -e "${@:2}" "$tmp/body" >/dev/null 2>&1 || fail 13 "$doc: $1"
}

# open_envelope FILE TYPE takes a DSSE envelope apart: its payload goes to
# $tmp/body, the bytes that are signed to $tmp/pae, and a line of key id and
# signature for each to $tmp/signatures.
open_envelope() {
  local type=$2 most=8388608
  doc=$1
  case $type in *policy*) most=262144 ;; esac
  check_there "$doc"
  [ "$(($(wc -c <"$doc")))" -le "$most" ] || fail 15 "$doc has more than $most bytes"
  jq -rs 'if length == 1 and (.[0]
    | (keys == ["payload", "payloadType", "signatures"])
      and (.signatures | type == "array" and length <= 16)
      and all(.signatures[]; keys == ["keyid", "sig"])
      and all(.payload, .payloadType, .signatures[][]; type == "string" and (test("[[:space:]]") | not)))
    then .[0] | .payloadType, .payload, (.signatures[] | "\(.keyid) \(.sig)")
    else error("not an envelope") end' "$doc" >"$tmp/envelope" 2>/dev/null || fail 13 "$doc is not an envelope"
  IFS= read -r type <"$tmp/envelope"
  [ "$type" = "$2" ] || fail 13 "$doc is not of type $2"
  sed -n 2p "$tmp/envelope" | base64 -d >"$tmp/body" 2>/dev/null || fail 13 "the payload of $doc is not base64"
  tail -n +3 "$tmp/envelope" >"$tmp/signatures"
  {
    printf 'DSSEv1 %d %s %d ' "${#type}" "$type" "$(($(wc -c <"$tmp/body")))"
    cat "$tmp/body"
  } >"$tmp/pae"
}

# signed_by KEY reports whether key number KEY of the policy signed $tmp/pae. A
# signature that is no good counts for nothing and against nothing.
signed_by() {
  local key=$1 id sig
  while read -r id sig; do
    [ "$id" = "${key_id[key]}" ] || continue
    printf '%s' "$sig" | base64 -d >"$tmp/sig" 2>/dev/null || continue
    case ${key_algorithm[key]} in
      ed25519 | ml-dsa-65) # the latter from openssl 3.5 on
        openssl pkeyutl -verify -pubin -inkey "$tmp/key$key.pem" -rawin -in "$tmp/pae" \
          -sigfile "$tmp/sig" >/dev/null 2>&1 && return 0
        ;;
      ecdsa-p256)
        openssl dgst -sha256 -verify "$tmp/key$key.pem" -signature "$tmp/sig" "$tmp/pae" \
          >/dev/null 2>&1 && return 0
        ;;
    esac
  done <"$tmp/signatures"
  return 1
}

# counts KIND KEY SEQ reports whether a key's signature of a document counts for
# manifest SEQ; 0 is none in particular. Of pages and plans, which the manifest names,
# only the version of the policy itself can take a key out.
counts() {
  local kind=$1 key=$2 seq=$3 until=${key_revoked[$2]} any
  any=${revoked_from[${key_id[key]}]:-0}
  if [ "$kind" != page ] && [ "$any" != 0 ] && { [ "$until" = 0 ] || [ "$any" -lt "$until" ]; }; then
    until=$any
  fi
  [ "$seq" = 0 ] || { [ "${key_from[key]}" -le "$seq" ] && { [ "$until" = 0 ] || [ "$seq" -lt "$until" ]; }; }
}

# need_signatures KIND VERSION SEQ checks that enough keys of a version of the policy
# signed a document: a policy; a manifest, which officers do not sign; or a page or a
# plan, which any exporter may.
need_signatures() {
  local kind=$1 version=$2 seq=$3 need n=0 key who= group short= enough=yes
  local -A of_group=() asked=()
  need=${policy_threshold[version]}
  [ "$kind" != page ] || need=1
  for ((key = policy_key[version]; key < policy_key[version + 1]; key++)); do
    case $kind in
      page) [ "${key_role[key]}" = exporter ] || continue ;;
      manifest) [ "${key_role[key]}" != officer ] || continue ;;
    esac
    group=${key_group[key]} asked[$group]=yes
    if ! counts "$kind" "$key" "$seq"; then
      who+="; void ${key_name[key]}"
    elif signed_by "$key"; then
      n=$((n + 1)) of_group[$group]=$((${of_group[$group]:-0} + 1))
      who+="; ok ${key_name[key]}"
    else
      who+="; missing ${key_name[key]}"
    fi
  done
  [ "$n" -ge "$need" ] || enough=
  if [ "$kind" != page ]; then
    for group in ${policy_groups[version]}; do
      if [ -n "${asked[${group%=*}]:-}" ] && [ "${of_group[${group%=*}]:-0}" -lt "${group#*=}" ]; then
        enough= short+="; ${of_group[${group%=*}]:-0} of group ${group%=*}, ${group#*=} needed"
      fi
    done
  fi
  [ -n "$enough" ] || fail 10 "$doc is signed by $n trusted keys, $need needed$short$who"
}

# load_keys VERSION reads the keys of the policy in $tmp/body. The same key under two
# names would count twice, so it is refused.
load_keys() {
  local name role algorithm spki group from revoked id i n=${#key_id[@]}
  policy_key[$1]=$n
  ask '.keys[] | [.name, .role, .algorithm, .spki, .group // "-", .from // 0, .revoked // 0] | @tsv' >"$tmp/list"
  while IFS=$'\t' read -r name role algorithm spki group from revoked; do
    case $algorithm in
      ed25519) [[ $spki =~ ^MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=$ ]] ;;
      ecdsa-p256) [[ $spki =~ ^MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE[A-Za-z0-9+/]{86}==$ ]] ;;
      ml-dsa-65) [[ $spki =~ ^MIIHsjALBglghkgBZQMEAxIDggeh[A-Za-z0-9+/]*$ && ${#spki} -eq 2632 ]] ;;
      *) false ;;
    esac || fail 13 "$doc: key $name is not a key of $algorithm"
    [[ $name =~ $re_file && $role =~ ^(exporter|notary|officer)$ && $from =~ $re_seq && $revoked =~ $re_seq ]] ||
      fail 13 "$doc: name, role or numbers of a key"
    [[ $group = - || $group =~ $re_file ]] || fail 13 "$doc: group of key $name"
    printf '%s' "$spki" | base64 -d >"$tmp/spki" || fail 13 "$doc: key $name is not base64"
    id=$(sha256 <"$tmp/spki")
    for ((i = policy_key[$1]; i < n; i++)); do
      [ "${key_id[i]}" != "$id" ] || fail 13 "$doc: key $name is there twice"
    done
    printf -- '-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n' "$(fold -w 64 <<<"$spki")" >"$tmp/key$n.pem"
    key_name[n]=$name key_role[n]=$role key_algorithm[n]=$algorithm key_id[n]=$id
    key_group[n]=$group key_from[n]=$from key_revoked[n]=$revoked
    n=$((n + 1))
  done <"$tmp/list"
  policy_key[$1 + 1]=$n
}

# revoke VERSION notes the keys a version of the policy revokes. None is taken back.
revoke() {
  local key was
  for ((key = policy_key[$1]; key < policy_key[$1 + 1]; key++)); do
    was=${revoked_from[${key_id[key]}]:-0}
    if [ "$was" != 0 ] && { [ "${key_revoked[key]}" = 0 ] || [ "${key_revoked[key]}" -gt "$was" ]; }; then
      fail 13 "$doc takes back key ${key_name[key]}, which was revoked"
    fi
    [ "${key_revoked[key]}" = 0 ] || revoked_from[${key_id[key]}]=${key_revoked[key]}
  done
}

# check_version VERSION checks a version of the policy, and that the one before it
# agrees to it.
check_version() {
  local version=$1 format number from prev salt threshold groups digest
  printf -v doc 'policy/%08d.dsse.json' "$version"
  open_envelope "$doc" application/vnd.otsnap.policy+json
  digest=$(sha256 <"$tmp/body")
  if [ "$version" = 1 ]; then
    archive=$digest
    if [ -n "$want_archive" ] && [ "$archive" != "$want_archive" ]; then
      fail 10 "this archive is $archive, you asked for $want_archive"
    fi
  fi
  ask '[.format, .version, .from // 1, .prev // "-", .salt, .threshold, ([.groups // [] | .[] | "\(.name)=\(.threshold)"] | join(" "))] | @tsv' >"$tmp/list"
  IFS=$'\t' read -r format number from prev salt threshold groups <"$tmp/list"
  check_format "$format"
  [[ $threshold =~ ^[1-9][0-9]?$ && $from =~ ^[1-9][0-9]{0,7}$ ]] || fail 13 "$doc: threshold $threshold, from $from"
  [[ $groups =~ ^([A-Za-z0-9][A-Za-z0-9._@-]{0,63}=[1-9][0-9]?( |$))*$ ]] || fail 13 "$doc: groups"
  if [ "$version" != 1 ]; then
    need_signatures policy "$((version - 1))" "$from"
    [ "$number" = "$version" ] || fail 11 "$doc holds version $number of the policy"
    [ "$prev" = "${policy_digest[version - 1]}" ] || fail 11 "$doc does not follow the version before it"
    [ "$from" -ge "${policy_from[version - 1]}" ] || fail 13 "$doc is from manifest $from on, the version before it from a later one"
    [ "$salt" = "$policy_salt" ] || fail 13 "$doc has another salt"
    holds 'a file of the version before is left out' --slurpfile before "$tmp/files" '.files as $f | $before[0] - $f == []'
  fi
  [ "$number" = "$version" ] || fail 13 "$doc holds version $number of the policy"
  ask .files >"$tmp/files"
  policy_from[version]=$from policy_threshold[version]=$threshold policy_digest[version]=$digest
  policy_groups[version]=$groups policy_salt=$salt
  load_keys "$version"
  revoke "$version"
  need_signatures policy "$version" "$from"
  echo "ok  policy $version, from manifest $from on: $((policy_key[version + 1] - policy_key[version])) keys, $threshold must sign${groups:+, and of groups $groups}"
}

check_policy() {
  local file name sha n=0 version
  check_there policy/00000001.dsse.json
  for file in policy/*; do
    name=${file#policy/}
    [[ $name =~ ^[0-9]{8}\.dsse\.json$ ]] || continue
    n=$((n + 1))
    [ "$((10#${name:0:8}))" = "$n" ] || fail 12 "version $n of the policy is missing, though $name is there"
    [ "$n" -le "$policy_limit" ] || fail 15 "the policy has more than $policy_limit versions"
  done
  for ((version = 1; version <= n; version++)); do
    check_version "$version"
  done
  newest_policy=$n
  if [ -n "$want_version" ] && [ "${policy_digest[want_version]:-}" != "$want_policy" ]; then
    fail 11 "version $want_version of the policy is ${policy_digest[want_version]:-hidden or deleted}, but you have seen $want_policy"
  fi
  jq -r '.[] | [.name, .sha256] | @tsv' "$tmp/files" >"$tmp/list" || fail 13 "$doc: files"
  while IFS=$'\t' read -r name sha; do
    [[ $name =~ $re_file && $sha =~ $re_hash ]] || fail 13 "$doc: file name or digest"
    check_file "$name" "$sha"
    echo "ok  $name"
  done <"$tmp/list"
}

# in_force SEQ finds the version of the policy by which a manifest and what it names
# are judged, whatever they say.
in_force() {
  number=$1
  for ((version = newest_policy; policy_from[version] > number && version > 1; version--)); do :; done
}

# check_named DIGEST checks which version of the policy a manifest names.
check_named() {
  local v
  [ "$1" != "${policy_digest[version]}" ] || return 0
  for v in "${!policy_digest[@]}"; do
    [ "$1" != "${policy_digest[v]}" ] || fail 10 "$doc was made under version $v of the policy; version $version is in force for it"
  done
  fail 11 "$doc was made under a version of the policy that is not here: a newer one is hidden or deleted"
}

# A jq function: sum(f) adds up the totals f finds in the elements of an array.
totals='def sum(f): reduce .[] as $x ({chunks: 0, rows: 0, cells: 0, raw_bytes: 0, stored_bytes: 0};
  . as $t | ($x | f) as $y | with_entries(.value += $y[.key]));'

# check_manifest NUMBER DIGEST-BEFORE
check_manifest() {
  local before=$2 file format archive_id policy seq prev snapshot plan n table summary
  in_force "$1"
  printf -v file 'manifests/%08d.dsse.json' "$number"
  open_envelope "$file" application/vnd.in-toto+json
  need_signatures manifest "$version" "$number"
  ask '.predicate | [.format, .archive, .policy, .seq, .prev, .snapshot, .plan, (.tables | length)] | @tsv' >"$tmp/list"
  IFS=$'\t' read -r format archive_id policy seq prev snapshot plan n <"$tmp/list"
  check_format "$format"
  [ "$archive_id" = "$archive" ] || fail 10 "$doc belongs to another archive"
  check_named "$policy"
  [ "$seq" = "$number" ] || fail 11 "$doc holds manifest $seq"
  [ "$prev" = "$before" ] || fail 11 "$doc does not follow the manifest before it"
  [[ $snapshot =~ $re_snapshot && $plan =~ $re_hash && $n =~ ^[0-9]+$ ]] || fail 13 "$doc: snapshot or plan"
  holds 'not a statement about a snapshot' '._type == "https://in-toto.io/Statement/v1"
    and .predicateType == "https://github.com/otsnap/otsnap/manifest/v1"'
  jq .predicate "$tmp/body" >"$tmp/manifest" || fail 13 "$doc does not hold what it must"
  jq -c .subject "$tmp/body" >"$tmp/subject" || fail 13 "$doc does not hold what it must"
  cp "$tmp/manifest" "$tmp/body"
  holds 'the totals do not add up' "$totals"'
    .totals == (.tables | sum(.totals)) and all(.tables[]; .totals == (.pages | sum(.totals)))'
  holds 'the ranges do not lie side by side' 'all(.tables[].pages;
    length > 0 and .[0].from == "" and .[-1].to == ""
    and all(range(0; length) as $i | .[$i] as $p | .[$i + 1] as $q
      | $p.range == $i and ($q == null or ($p.to != "" and $p.to == $q.from)); .))'
  holds 'the subjects are not its pages' --slurpfile subject "$tmp/subject" '.snapshot as $s
    | [.tables[] | .table.name as $t | .pages[] | {
        name: "snapshots/\($s)/\($t)/r\(("000" + (.range | tostring))[-4:]).dsse.json",
        digest: {sha256: .sha256}}] == $subject[0]'
  summary=$(ask '"\(.tables | length) tables, \(.totals.chunks) chunks, \(.totals.rows) rows"') || exit
  echo "ok  manifest $seq, snapshot $snapshot: $summary"
  check_plan "$snapshot" "$plan"
  for ((table = 0; table < n; table++)); do
    check_table "$snapshot" "$table"
  done
}

check_format() {
  [ "$1" = 1 ] || fail 16 "$doc has format $1; this script reads format 1"
}

check_plan() {
  local file=snapshots/$1/plan.dsse.json
  check_file "$file" "$2"
  open_envelope "$file" application/vnd.otsnap.plan+json
  need_signatures page "$version" "$number"
  [ "$(ask '"\(.archive) \(.snapshot)"')" = "$archive $1" ] || fail 13 "$doc belongs to another snapshot"
}

check_table() {
  local snapshot=$1 name range sha size page=0 entry=$tmp/entry
  jq ".tables[$2]" "$tmp/manifest" >"$entry" || cannot "jq does not work"
  name=$(jq -r .table.name "$entry")
  [[ $name =~ $re_table ]] || fail 13 "table name"
  : >"$tmp/lines"
  : >"$tmp/sums"
  jq -r '.pages[] | [.range, .sha256, .size] | @tsv' "$entry" >"$tmp/pages" || fail 13 "table $name: pages"
  while IFS=$'\t' read -r range sha size; do
    [[ $sha =~ $re_hash && $size =~ ^[0-9]+$ ]] || fail 13 "table $name: digest or size of a page"
    check_page "$snapshot" "$name" "$page" "$range" "$sha" "$size"
    page=$((page + 1))
  done <"$tmp/pages"
  if [ -s "$tmp/sums" ]; then
    sha256sum --quiet -c "$tmp/sums" >&2 || fail 13 "table $name: chunks are not what was signed"
  fi
  check_root "$name"
}

# check_page SNAPSHOT TABLE INDEX RANGE SHA256 SIZE
check_page() {
  local file dir=snapshots/$1/$2 chunk sha size
  printf -v file '%s/r%04d.dsse.json' "$dir" "$4"
  check_file "$file" "$5" "$6"
  open_envelope "$file" application/vnd.otsnap.page+jsonl
  need_signatures page "$version" "$number"
  head -n 1 "$tmp/body" >"$tmp/head"
  tail -n +2 "$tmp/body" >"$tmp/chunks"
  cat "$tmp/chunks" >>"$tmp/lines"
  mv "$tmp/head" "$tmp/body"
  check_format "$(ask .format)"
  holds 'not the page the manifest means' --slurpfile entry "$tmp/entry" \
    --arg archive "$archive" --arg snapshot "$1" --argjson i "$3" '$entry[0] as $t | $t.pages[$i] as $p
    | .archive == $archive and .snapshot == $snapshot and .table == $t.table.name and .range == $p.range
    and .from == $p.from and .to == $p.to and .totals == $p.totals'
  holds 'its chunks do not add up or are out of order' --slurpfile chunks "$tmp/chunks" "$totals"'
    . as $page | $chunks
    | ($page.totals == sum({chunks: 1, rows, cells, raw_bytes, stored_bytes: .size}))
    and all(range(0; length) as $i | .[$i] as $c | .[$i + 1] as $d
      | ($c.name | test("^r" + ("000" + ($page.range | tostring))[-4:] + "[.-]"))
      and ($c.name[-14:-8] == ("00000" + ($i | tostring))[-6:])
      and $c.first >= $page.from and $c.first <= $c.last
      and ($page.to == "" or $c.last < $page.to) and ($d == null or $c.last < $d.first); .)'
  jq -r '[.name, .sha256, .size] | @tsv' "$tmp/chunks" >"$tmp/list" || fail 13 "$doc: chunks"
  while IFS=$'\t' read -r chunk sha size; do
    [[ $chunk =~ $re_chunk && $sha =~ $re_hash && $size =~ ^[0-9]+$ ]] || fail 13 "$doc: name, digest or size of a chunk"
    check_there "$dir/$chunk"
    [ "$(($(wc -c <"$dir/$chunk")))" = "$size" ] || fail 13 "$dir/$chunk does not have the $size bytes signed"
    printf '%s  %s\n' "$sha" "$dir/$chunk" >>"$tmp/sums"
  done <"$tmp/list"
}

# check_root computes the RFC 6962 tree hash over the chunk lines of a table.
check_root() {
  local want chunks line leaf size=0 bit stack=()
  want=$(jq -r .root "$tmp/entry") chunks=$(jq -r .totals.chunks "$tmp/entry")
  if [ "$chunks" -gt "$root_limit" ]; then
    echo "ok  table $1: $chunks chunks (Merkle root not computed: more than $root_limit chunks)"
    return
  fi
  while IFS= read -r line; do
    leaf=$({ printf '\0' && printf '%s' "$line"; } | sha256)
    for ((bit = size; bit & 1; bit >>= 1)); do
      leaf=$(hex_bytes "01${stack[-1]}$leaf" | sha256)
      unset 'stack[-1]'
    done
    stack+=("$leaf")
    size=$((size + 1))
  done <"$tmp/lines"
  [ "$size" = "$chunks" ] || fail 13 "table $1 has $size chunks, $chunks were signed"
  if [ "$size" = 0 ]; then
    leaf=$(printf '' | sha256)
  else
    leaf=${stack[-1]}
    for ((bit = ${#stack[@]} - 2; bit >= 0; bit--)); do
      leaf=$(hex_bytes "01${stack[bit]}$leaf" | sha256)
    done
  fi
  [ "$leaf" = "$want" ] || fail 13 "table $1: the Merkle root is $leaf, $want was signed"
  echo "ok  table $1: $chunks chunks, Merkle root"
}

# check_chain walks the manifests from the first to the newest.
check_chain() {
  local file name n=0 seq prev=$zero seen=
  for file in manifests/*; do
    name=${file#manifests/}
    [[ $name =~ ^[0-9]{8}\.dsse\.json$ ]] || continue
    n=$((n + 1))
    [ "$((10#${name:0:8}))" = "$n" ] || fail 12 "manifest $n is missing, though $name is there"
  done
  for ((seq = 1; seq <= n; seq++)); do
    check_manifest "$seq" "$prev"
    printf -v file 'manifests/%08d.dsse.json' "$seq"
    prev=$(sha256 <"$file")
    if [ "$seq" = "$want_seq" ]; then
      [ "$prev" = "$want_head" ] || fail 11 "manifest $seq is $prev, but you have seen $want_head"
      seen=yes
    fi
  done
  if [ -n "$want_seq" ] && [ -z "$seen" ]; then
    fail 11 "the archive ends at manifest $n, but you have seen $want_seq: something is hidden or deleted"
  fi
  newest=$n head=$prev
}

# count FOLDER SUFFIX tells how many objects there have a number and that suffix.
count() {
  local file n=0
  for file in "$1"/[0-9]*"$2"; do [ ! -f "$file" ] || n=$((n + 1)); done
  printf '%d' "$n"
}

usage() {
  echo "usage: bash verify.sh [ARCHIVE-ID [SEQ HEAD [VERSION POLICY]]]" >&2
  exit 2
}

main() {
  local tool
  want_archive=${1:-} want_seq=${2:-} want_head=${3:-} want_version=${4:-} want_policy=${5:-}
  [ $# -le 1 ] || [ $# -eq 3 ] || [ $# -eq 5 ] || usage
  [ $# -lt 1 ] || [[ $want_archive =~ $re_hash ]] || usage
  [ $# -lt 3 ] || [[ $want_seq =~ ^[1-9][0-9]{0,7}$ && $want_head =~ $re_hash ]] || usage
  [ $# -lt 5 ] || [[ $want_version =~ ^[1-9][0-9]{0,3}$ && $want_policy =~ $re_hash ]] || usage
  for tool in jq openssl sha256sum base64 fold wc mktemp; do
    command -v "$tool" >/dev/null || cannot "$tool is needed"
  done
  tmp=$(mktemp -d) || cannot "no place for temporary files"
  trap 'rm -rf "$tmp"' EXIT
  key_name=() key_role=() key_algorithm=() key_id=() key_group=() key_from=() key_revoked=()
  policy_key=() policy_from=() policy_threshold=() policy_groups=() policy_digest=()
  declare -gA revoked_from=()

  check_policy
  check_chain

  echo
  echo "archive  $archive"
  echo "policy   $newest_policy ${policy_digest[newest_policy]}"
  echo "newest   $newest $head"
  echo "beside   $(count notarizations .dsse.json) notarizations, $(count timestamps .tsr) time stamps, $(count receipts .dsse.json) receipts, none of them checked"
  echo "Everything the manifests name is here and is what was signed."
  if [ -z "$want_archive" ]; then
    echo "UNPROVEN: no archive id was given, so the policy itself, and with it every key,"
    echo "is not proven. Compare the archive line with the id noted down outside the archive."
  fi
  if [ -z "$want_seq" ]; then
    echo "UNPROVEN: nothing seen before was given, so newer snapshots may be hidden."
    echo "Compare the policy and the newest line with the numbers and digests noted down earlier."
  fi
}

main "$@"
