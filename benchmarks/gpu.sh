#!/usr/bin/env bash
# What only a GPU can tell, on a machine that is lent for minutes:
#
#   benchmarks/gpu.sh numerics|benchmark|population|crossover|all
#
# Results lie in results/gpu; $OUT, where it is set, gets what is to come back, a few files side by side. A part that
# is done is skipped. One that was cut goes on, if results/gpu is there again or holds what came back: the benchmark
# with its next cell, crossover with its next run, the tests with what they have compiled. LIMIT=seconds takes the
# place of each part's own limit; DRY=1 runs all parts, tiny, on a CPU.
#
# A machine without Keras takes it from .whl, a folder of wheels for its Python: keras, keras-hub (whose source is
# the corpus), optuna, pydantic, statsmodels, datasketch, tenacity, PyYAML and what these need.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=${1:?numerics, benchmark, population, crossover or all}
home=results/gpu
out=${OUT:-$home}
dry=${DRY:-}
mkdir -p "$home" "$out"
if [ -e "$home/gpu-crossover.tgz" ] && [ ! -d "$home/gpu-crossover" ]; then
  tar -xzf "$home/gpu-crossover.tgz" -C "$home"
fi

export KERAS_BACKEND=jax XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONUNBUFFERED=1
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
[ -z "$dry" ] || { export JAX_PLATFORMS=cpu; LIMIT=${LIMIT:-600}; }
if ! python3 -c 'import keras' 2>/dev/null && compgen -G '.whl/*.whl' >/dev/null; then
  site=${TMPDIR:-/tmp}/lab-site
  [ -d "$site" ] ||
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" .whl/*.whl
  PYTHONPATH="$site:$PYTHONPATH"
fi

limited() { # SIGNAL SECONDS COMMAND...: what is over the limit is told to end, and may end well
  timeout --kill-after=20 --signal="$1" "$(($2 > 0 ? $2 : 1))" "${@:3}"
}

# Files of numerics that start no process, and of the longest single cases: 6 minutes of one CPU core. Left out:
# what asks for equal bits of two trainings, since XLA adds up scattered gradients in no fixed order on a GPU
# (test_resume, test_kill, test_run), and bfloat16 at heads of 4 features, which cuDNN's attention refuses.
# Bits of NumPy are asked for of draws alone (test_draws, test_place_draws, test_noise, test_input_noise): if XLA
# fuses a multiplication and an addition there, these fail, and should.
NUMERICS=(
  tests/models/test_{flash_attention,transformer,information_flow,layers,architecture,loops,rotary,dropout}.py
  tests/objectives/test_{losses,objective,exact,noise,draws,place_draws,input_noise,corruption}.py
  tests/evaluation/test_{chain_rule,nelbo,choice_draws,measure_nelbo}.py
  tests/training/test_{optimizer,schedule,variables,engine}.py
  "tests/training/test_train_step.py::test_one_step_has_the_loss_and_gradient_of_a_numpy_model[ar]"
  "tests/training/test_train_step.py::test_one_step_has_the_loss_and_gradient_of_a_numpy_model[dlm]"
  "tests/training/test_train_step.py::test_one_step_has_the_loss_and_gradient_of_a_numpy_model[any_order_ar]"
)
[ -z "$dry" ] || NUMERICS=(tests/models/test_{flash_attention,rotary}.py tests/objectives/test_losses.py)

numerics() {
  local status=0 workers=(--numprocesses 8 --dist loadfile --no-loadscope-reorder)
  [ -z "$dry" ] || workers=()
  # The tests' own XLA_FLAGS are a CPU's, and level 0 would act on a GPU too. Other versions warn of other things.
  XLA_FLAGS='' JAX_DEFAULT_MATMUL_PRECISION=highest limited INT "${LIMIT:-90}" python3 -m pytest \
    "${NUMERICS[@]}" -k 'not mixed_bfloat16_is_close and not policy_reaches' -W default "${workers[@]}" \
    --junitxml="$home/numerics.xml" || status=$?
  [ "$status" != 1 ] || touch "$home/numerics.done" # some failed, but all have run
  return "$status"
}

# At most five processes at once: at 85m each of three sides takes some 20 GB, by reckoning. At paper_1b the lab
# alone takes some 45 GB, so it stands beside the matrix products only.
benchmark() {
  local cores began=$SECONDS limit=${LIMIT:-120} turns=(--rounds 4 --seconds 1)
  local sides=(--side 'lab, JAX' --side 'JAX by hand' --side 'PyTorch, compiled')
  local shapes=(--shape '85m, 1024 x 16' --shape '25m, 1024 x 32') large=(--shape 'paper_1b, 2048 x 4')
  cores=$(nproc)
  [ -z "$dry" ] || cores=1 turns=(--rounds 2 --seconds 0.05) shapes=(--shape smoke) large=()
  speed() {
    limited TERM "$((limit - SECONDS + began))" python3 -m benchmarks.speed --out "$home" --once --dtype bfloat16 \
      --cores "$cores" "${turns[@]}" "$@"
  }
  speed "${shapes[@]}" "${sides[@]}" || return
  [ ${#large[@]} = 0 ] || speed "${large[@]}" --side 'lab, JAX'
}

# Targets: 8 times the runs one after the other at 0.8m, 3 times at 3m.
population() {
  local began=$SECONDS limit=${LIMIT:-75} turns=(--rounds 3 --seconds 0.5 --dtype bfloat16 --arm dlm) cell
  local cells=('0.8m, 256 x 32:16' '3m, 256 x 32:8' '10m, 256 x 32:4')
  [ -z "$dry" ] || cells=(smoke:3) turns=(--rounds 2 --seconds 0.05)
  for cell in "${cells[@]}"; do
    limited TERM "$((limit - SECONDS + began))" python3 -m benchmarks.population --out "$home" "${turns[@]}" \
      --shape "${cell%:*}" --runs "${cell#*:}" || return
  done
}

crossover() {
  local preset=gpu places=() status=0 limit=${LIMIT:-270}
  [ -z "$dry" ] || preset=smoke places=(--workers 1 --population 3)
  limited TERM "$((limit - 30))" python3 -m lab ablate benchmarks/gpu_crossover.py --preset "$preset" \
    ${places[@]+"${places[@]}"} --results "$home" || status=$?
  if [ "$status" != 0 ]; then python3 -m lab report "$home/gpu-crossover" || true; fi
  return "$status"
}

keep() { # what is to come back: no weights, and nine files at most
  if [ -d "$home/gpu-crossover" ]; then
    tar --exclude=checkpoints -czf "$out/gpu-crossover.tgz" -C "$home" gpu-crossover
  fi
  [ "$out" -ef "$home" ] || cp "$home"/{numerics.xml,speed.json,speed.md,population.json,*.done} "$out" 2>/dev/null || true
}
trap keep EXIT

failed=0
for part in numerics benchmark population crossover; do
  if [ "$wanted" != all ] && [ "$wanted" != "$part" ]; then continue; fi
  if [ -e "$home/$part.done" ]; then
    echo "$part: done before"
    continue
  fi
  began=$SECONDS status=0
  "$part" || status=$?
  echo "$part: $((SECONDS - began)) s, status $status"
  if [ "$status" = 0 ]; then touch "$home/$part.done"; else failed=$status; fi
done
exit "$failed"
