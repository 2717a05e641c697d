#!/usr/bin/env bash
# Builds the image and uses it as a careful user would: an unknown user id, no network, a root filesystem and data that
# cannot be written. Needs docker and nothing else.
#
#   docker/check.sh                      build tlkit:check, then try it
#   IMAGE=tlkit:1.0 docker/check.sh      try an image that is there
#   DOCKER="sudo docker" BUILD_ARGS="--build-arg DEVICE=gpu" docker/check.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

read -ra docker <<<"${DOCKER:-docker}"
read -ra build_args <<<"${BUILD_ARGS:-}"
user=12345:12345
work=$(mktemp -d)
mkdir "$work/out" "$work/data"
chmod 755 "$work"
chmod 777 "$work/out"

image=${IMAGE:-}
if [ -z "$image" ]; then
    image=tlkit:check
    DOCKER_BUILDKIT=1 "${docker[@]}" build "${build_args[@]}" -t "$image" .
fi

careful=(run --rm --network none --user "$user" --read-only --tmpfs /tmp
    -v "$work/data:/data:ro" -v "$work/out:/out")

cleanup() {   # what the container wrote is not ours to delete, but it is the container's
    "${docker[@]}" "${careful[@]}" --entrypoint find "$image" /out -mindepth 1 -delete || true
    rm -rf "$work"
}
trap cleanup EXIT

step() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
tlkit() { "${docker[@]}" "${careful[@]}" "$image" "$@"; }

step "image"
"${docker[@]}" image inspect "$image" --format '{{.Size}} bytes, user {{.Config.User}}, entrypoint {{.Config.Entrypoint}}'
case $("${docker[@]}" image inspect "$image" --format '{{.Config.User}}') in '' | 0* | root*) fail "runs as root" ;; esac

step "--help, and a command that does not exist"
tlkit --help >/dev/null
status=0
tlkit no-such-command 2>/dev/null || status=$?
[ "$status" = 2 ] || fail "exit code $status for an unknown command, expected 2"

step "a sample as data"
tlkit sample digits /out/digits --count 300
cp -r "$work/out/digits/." "$work/data/"

step "finetune"
tlkit finetune /data --backbone nano --no-flip --out /out/run
for file in report.html metrics.json model.keras predictions.csv; do
    [ -s "$work/out/run/$file" ] || fail "no $file"
done

step "features"
tlkit features /data --backbone nano --out /out/features.csv
rows=$(($(wc -l <"$work/out/features.csv") - 1))
[ "$rows" = 300 ] || fail "$rows rows in features.csv, expected 300"

step "predict"
tlkit predict /out/run /data/3 --out /out/predictions.csv
rows=$(($(wc -l <"$work/out/predictions.csv") - 1))
[ "$rows" = 30 ] || fail "$rows rows in predictions.csv, expected 30"

step "everything belongs to the caller"
foreign=$(find "$work/out" -mindepth 1 ! \( -uid "${user%:*}" -gid "${user#*:}" \))
[ -z "$foreign" ] || fail "not owned by $user: $foreign"

step "a weight that is not there, with no network: one message, no traceback"
status=0
message=$(tlkit finetune /data --backbone vgg16 --out /out/none 2>&1) || status=$?
[ "$status" = 1 ] || fail "exit code $status without weights, expected 1"
case $message in *Traceback*) fail "a traceback: $message" ;; esac
printf '%s\n' "$message" | tail -3

step "all checks passed"
