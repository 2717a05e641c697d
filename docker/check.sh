#!/usr/bin/env bash
# Builds the image, and the one that only answers, and uses them as a careful user would: an unknown user id, no network,
# no capabilities, a root filesystem and data that cannot be written. Every command runs at least once; the small image
# answers for the run that the whole one made. Needs docker and nothing else; prints a transcript; the exit code is 0 only
# if everything holds.
#
#   docker/check.sh                      build tlkit:check and tlkit:check-answer, then try them
#   IMAGE=tlkit:1.0 ANSWER=tlkit:1.0-answer docker/check.sh      try images that are there
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
    DOCKER_BUILDKIT=1 "${docker[@]}" build ${build_args[@]+"${build_args[@]}"} -t "$image" .
fi
answer_image=${ANSWER:-}
if [ -z "$answer_image" ]; then
    answer_image=tlkit:check-answer
    DOCKER_BUILDKIT=1 "${docker[@]}" build ${build_args[@]+"${build_args[@]}"} --target answer -t "$answer_image" .
fi

name=tlkit-check-$$
confined=(--network none --user "$user" --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges)
careful=(run --rm "${confined[@]}" -v "$work/data:/data:ro" -v "$work/out:/out" -e TLKIT_CACHE=/out/cache)

cleanup() {   # what the container wrote is not ours to delete, but it is the container's
    "${docker[@]}" rm --force "$name" >/dev/null 2>&1 || true
    "${docker[@]}" volume rm --force "$name-images" "$name-out" >/dev/null 2>&1 || true
    "${docker[@]}" "${careful[@]}" --entrypoint find "$image" /out -mindepth 1 -delete || true
    rm -rf "$work"
}
trap cleanup EXIT

step() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
tlkit() { printf '$ tlkit %s\n' "$*" >&2; "${docker[@]}" "${careful[@]}" "$image" "$@"; }
inside() { "${docker[@]}" "${careful[@]}" --entrypoint sh "$image" -c "$1"; }
rows() { echo $(($(wc -l <"$1") - 1)); }
inspect() { "${docker[@]}" inspect "$name" --format "$1"; }

step "image"
"${docker[@]}" image inspect "$image" --format '{{.Size}} bytes, user {{.Config.User}}, entrypoint {{.Config.Entrypoint}}'
case $("${docker[@]}" image inspect "$image" --format '{{.Config.User}}') in '' | 0* | root*) fail "runs as root" ;; esac
# shellcheck disable=SC2016  # for the shell in the container
inside 'cd "$(python -c "import sysconfig; print(sysconfig.get_path(\"purelib\"))")" && du -sm . && du -sm -- * | sort -rn | head -12
        printf "%s MB of it is bytecode\n" "$(find . -name __pycache__ -prune -print0 | xargs -0 du -cm | tail -1 | cut -f1)"'

step "nothing for building, no caches"
# shellcheck disable=SC2016
inside 'for tool in gcc cc g++ make ld strip git; do ! command -v "$tool" || exit 1; done' || fail "a build tool is in the image"
inside '! /opt/tlkit/bin/python -m pip --version >/dev/null 2>&1' || fail "pip is in the environment"
left=$(inside 'find /var/lib/apt/lists /var/cache/apt /root/.cache -type f 2>/dev/null; ls -A /tmp')
[ -z "$left" ] || fail "caches in the image: $left"

step "--help, and a command that does not exist"
tlkit --help >/dev/null
status=0
tlkit no-such-command 2>/dev/null || status=$?
[ "$status" = 2 ] || fail "exit code $status for an unknown command, expected 2"

step "a sample as data"
tlkit sample shapes /out/shapes --count 200
cp -r "$work/out/shapes/." "$work/data/"

step "finetune"
tlkit finetune /data --backbone nano --out /out/run
for file in report.html metrics.json model.keras predictions.csv; do
    [ -s "$work/out/run/$file" ] || fail "no $file"
done
ls -ln "$work/out/run/report.html"

step "features"
tlkit features /data --backbone nano --out /out/features.csv
images=$(find "$work/data" -name '*.jpg' -o -name '*.png' | wc -l)
[ "$(rows "$work/out/features.csv")" = "$images" ] || fail "$(rows "$work/out/features.csv") rows in features.csv, expected $images"
tlkit features /data --backbone nano --out /out/features.parquet

step "predict"
class=$(basename "$(find "$work/data" -mindepth 1 -maxdepth 1 -type d | sort | head -1)")
image_file=$(cd "$work/data" && find "$class" -type f | sort | head -1)
tlkit predict /out/run "/data/$class" --out /out/predictions.csv
count=$(find "$work/data/$class" -type f | wc -l)
[ "$(rows "$work/out/predictions.csv")" = "$count" ] || fail "$(rows "$work/out/predictions.csv") rows in predictions.csv, expected $count"
answer=$(awk -F, -v path="$image_file" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
    $at["path"] == "/data/" path { print $at["class"], $at["probability"] }' "$work/out/predictions.csv")
[ -n "$answer" ] || fail "no prediction for $image_file"

step "every other command"
tlkit doctor
tlkit backbones >/dev/null
tlkit weights list >/dev/null
tlkit split /data --out /out/splits.csv
tlkit audit /data --out /out/audit
tlkit rank /data --backbones nano --out /out/rank
tlkit next /data --run /out/run --count 5 --out /out/next
tlkit finetune /data --backbone nano --stages head --out /out/other
tlkit evaluate /out/run /data --out /out/evaluation
tlkit compare /out/run /out/other
tlkit report /out/run --out /out/figures
tlkit explain /out/run "/data/$image_file" --out /out/explained
tlkit export /out/run --format keras,savedmodel,onnx,litert,litert-int8 --out /out/exported
for kind in keras savedmodel onnx litert litert-int8; do tlkit verify "/out/exported/$kind"; done
tlkit cache show

serve_and_ask() {   # serves the run with the image "$1", asks it about an image, stops it
    local image=$1
    token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    printf '%s\n' "$token" >"$work/token"
    chmod 644 "$work/token"
    "${docker[@]}" run --detach --name "$name" "${confined[@]}" \
        -v "$work/data:/data:ro" -v "$work/out/run:/run-folder:ro" -v "$work/token:/run/secrets/token:ro" \
        --health-cmd "python -c \"from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=5)\"" \
        --health-interval 2s --health-timeout 10s --health-start-period 180s --health-retries 3 \
        "$image" serve /run-folder --host 0.0.0.0 --token-file /run/secrets/token >/dev/null
    for _ in $(seq 180); do
        health=$(inspect '{{.State.Health.Status}}')
        [ "$health" = starting ] && [ "$(inspect '{{.State.Running}}')" = true ] || break
        sleep 1
    done
    printf 'health: %s\n' "$health"
    [ "$health" = healthy ] || { "${docker[@]}" logs "$name"; fail "the server is $health"; }
    "${docker[@]}" exec -i "$name" python - "$token" "/data/$image_file" "$answer" <docker/ask.py || fail "the server did not answer as it should"
    "${docker[@]}" stop --time 60 "$name" >/dev/null
    "${docker[@]}" logs "$name" 2>&1
    [ "$(inspect '{{.State.ExitCode}}')" = 0 ] || fail "exit code $(inspect '{{.State.ExitCode}}') after SIGTERM, expected 0"
    "${docker[@]}" rm --force "$name" >/dev/null
}

step "serve: healthy, asked, stopped"
serve_and_ask "$image"

step "the image that only answers: predict, serve, verify"
"${docker[@]}" image inspect "$answer_image" --format '{{.Size}} bytes, user {{.Config.User}}, entrypoint {{.Config.Entrypoint}}'
answering() { printf '$ tlkit %s\n' "$*" >&2; "${docker[@]}" "${careful[@]}" "$answer_image" "$@"; }
for package in tensorflow keras jax torch; do
    ! "${docker[@]}" "${careful[@]}" --entrypoint python "$answer_image" -c "import $package" 2>/dev/null || fail "$package is in it"
done
answering predict /out/run "/data/$class" --out /out/answered.csv
cut -d, -f1,2 "$work/out/predictions.csv" >"$work/ours"
cut -d, -f1,2 "$work/out/answered.csv" | cmp - "$work/ours" || fail "it says something else than the whole image"
answering verify /out/exported/onnx
serve_and_ask "$answer_image"
status=0
message=$(answering finetune /data --backbone nano --out /out/refused 2>&1) || status=$?
[ "$status" = 1 ] || fail "exit code $status for a command that it cannot, expected 1"
case $message in *Traceback*) fail "a traceback: $message" ;; esac
printf '%s\n' "$message" | tail -2

step "everything belongs to the caller"
foreign=$(find "$work/out" -mindepth 1 ! \( -uid "${user%:*}" -gid "${user#*:}" \))
[ -z "$foreign" ] || fail "not owned by $user: $foreign"

step "named volumes, also for a user id that nobody prepared them for"
volumes=(run --rm "${confined[@]}" -v "$name-out:/out")
"${docker[@]}" run --rm "${confined[@]}" -v "$name-images:/out" "$image" sample shapes /out/shapes --count 120
"${docker[@]}" "${volumes[@]}" -v "$name-images:/data:ro" "$image" finetune /data/shapes --backbone nano --stages head --out /out/run
"${docker[@]}" "${volumes[@]}" --entrypoint ls "$image" -ln /out/run/report.html

step "a weight that is not there, with no network: one message, no traceback"
status=0
message=$(tlkit finetune /data --backbone vgg16 --out /out/none 2>&1) || status=$?
[ "$status" = 1 ] || fail "exit code $status without weights, expected 1"
case $message in *Traceback*) fail "a traceback: $message" ;; esac
printf '%s\n' "$message" | tail -3

step "all checks passed"
