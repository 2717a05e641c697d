import keras
import numpy as np
import pytest

from tlkit.backbones.blocks import Block
from tlkit.backbones.build import build_backbone
from tlkit.options.catalog import OPTIMIZERS
from tlkit.options.groups import TrainingOptions
from tlkit.training.optimizer import (
    Layerwise,
    Updates,
    build_optimizer,
    carry_over,
    exchange_averages,
    rate_factors,
    unfreeze_and_compile,
)

RANDOM = np.random.default_rng(0)


def now(variable):
    return np.array(keras.ops.convert_to_numpy(variable))


def built(options, variables=(), **given):
    return build_optimizer(options, 0.01, 100, variables=variables, **given)


def rates_at(optimizer, batches):
    found = []
    for batch in batches:
        optimizer._iterations.assign(batch)
        found.append(float(optimizer.learning_rate))
    return found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_warms_up_to_its_peak_and_falls_to_zero(name):
    rates = rates_at(built(TrainingOptions(optimizer=name)), (0, 10, 55, 100))
    assert rates[0] == 0 and rates[1] == pytest.approx(0.01)
    assert rates[1] > rates[2] > rates[3] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("peak", "updates", "warm_up"), [(3e-4, 609, 0.1), (1e-3, 319, 0.3), (0.5, 3, 0.0)])
def test_a_schedule_is_the_cosine_of_keras_also_after_it_was_changed(peak, updates, warm_up):
    rising = max(1, int(warm_up * updates))
    oracle = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, updates - rising), warmup_target=peak, warmup_steps=rising
    )
    optimizer, places = built(TrainingOptions()), range(0, updates + 3, max(1, updates // 50))
    optimizer.follow(peak, updates, warm_up)
    assert optimizer.horizon == updates
    expected = [float(oracle(place)) for place in places]
    np.testing.assert_allclose(rates_at(optimizer, places), expected, rtol=1e-5, atol=1e-7 * peak)


def test_a_schedule_goes_by_updates_and_not_by_their_parts():
    one, three = (build_optimizer(TrainingOptions(), 0.01, 20, parts, variables=()) for parts in (1, 3))
    assert rates_at(three, range(6)) == rates_at(one, (0, 0, 0, 1, 1, 1))


@pytest.mark.parametrize("parts", [1, 3])
def test_a_schedule_that_is_to_end_sooner_or_later_goes_on_from_where_it_is(parts):
    optimizer = build_optimizer(TrainingOptions(), 0.01, 100, parts, variables=())
    plain = rates_at(optimizer, [parts * update for update in range(101)])
    optimizer._iterations.assign(parts * 40)
    optimizer.end_after(20)  # 60 places in 20 updates
    assert rates_at(optimizer, [parts * (40 + update) for update in range(21)]) == pytest.approx(plain[40::3], abs=1e-8)
    optimizer._iterations.assign(parts * 50)
    optimizer.end_after(60)  # the 30 places that are left
    found = rates_at(optimizer, [parts * (50 + update) for update in range(0, 61, 2)])
    assert found == pytest.approx(plain[70:], abs=1e-8)


def updated(options, gradients, factors=(1.0, 0.25), parts=1, steps=12, rate=0.01):
    """Two variables and the optimizer after steps with constant gradients; the warm-up's first step has rate zero."""
    keras.utils.set_random_seed(0)
    variables = [keras.Variable(np.array([3.0, 4.0], np.float32), name=name) for name in ("one_kernel", "two_kernel")]
    table = {id(variable): factor for variable, factor in zip(variables, factors, strict=True)}
    optimizer = build_optimizer(options, rate, 100, parts, variables=variables, factors=table)
    for _ in range(steps * parts):
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients], variables)
    return variables, optimizer


@pytest.mark.parametrize("parts", [1, 3])
def test_a_step_of_sgd_by_hand_each_variable_at_its_own_rate_under_one_clipping(parts):
    gradients = [np.array([3.0, 0.0], np.float32), np.array([0.0, 4.0], np.float32)]  # a global norm of 5, clipped to 1
    options = TrainingOptions(optimizer="sgd", momentum=0.0, weight_decay=0.0)
    variables, optimizer = updated(options, gradients, parts=parts, steps=2)
    rate = 0.01 / 10  # the second of ten updates of the warm-up, the first being at zero
    assert float(optimizer.learning_rate) == pytest.approx(2 * rate)
    np.testing.assert_allclose(now(variables[0]), [3 - rate * 3 / 5, 4], rtol=1e-6)
    np.testing.assert_allclose(now(variables[1]), [3, 4 - 0.25 * rate * 4 / 5], rtol=1e-6)


def test_decoupled_decay_follows_each_variable_s_rate():
    options = TrainingOptions(optimizer="sgd", momentum=0.0, weight_decay=0.5)
    variables, _ = updated(options, [np.zeros(2, np.float32)] * 2, steps=2, rate=1.0)
    for variable, factor in zip(variables, (1.0, 0.25), strict=True):
        np.testing.assert_allclose(now(variable), np.array([3.0, 4.0]) * (1 - 0.1 * factor * 0.5), rtol=1e-6)


def test_the_schedule_is_asked_as_often_however_many_variables_decay(monkeypatch):
    """Keras computes it for each variable, which is a second of tracing and hundreds of operations in every step."""
    asked, known = [], Layerwise._get_current_learning_rate
    monkeypatch.setattr(Layerwise, "_get_current_learning_rate", lambda self: asked.append(1) or known(self))
    variables = [keras.Variable(np.ones(2, np.float32)) for _ in range(9)]
    optimizer = build_optimizer(TrainingOptions(optimizer="adamw", weight_decay=0.1), 1.0, 10, variables=variables)
    asked.clear()
    optimizer.apply([keras.ops.ones(2)] * 9, variables)
    assert len(asked) == 2  # for the decay, and for the update itself


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_factor_is_a_smaller_rate_and_one_is_keras_s_own_optimizer(name):
    options = TrainingOptions(optimizer=name, weight_decay=0.1)
    gradients = [np.array([0.1, -0.2], np.float32)] * 2
    both, _ = updated(options, gradients, factors=(1.0, 0.25))
    plain, _ = updated(options, gradients, factors=(1.0, 1.0))
    slow, _ = updated(options, gradients, factors=(1.0, 1.0), rate=0.0025)
    np.testing.assert_allclose(now(both[0]), now(plain[0]), rtol=1e-6)
    np.testing.assert_allclose(now(both[1]), now(slow[1]), rtol=1e-6)
    kinds = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "lion": "Lion"}
    own = {"momentum": 0.9} if name in ("sgd", "rmsprop") else {}
    own |= {} if name == "adam" else {"weight_decay": 0.1}
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 90, warmup_target=0.01, warmup_steps=10)
    reference = getattr(keras.optimizers, kinds[name])(schedule, global_clipnorm=1.0, **own)
    variable = keras.Variable(np.array([3.0, 4.0], np.float32))
    other = keras.Variable(np.array([3.0, 4.0], np.float32))
    for _ in range(12):
        reference.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients], [variable, other])
    np.testing.assert_allclose(now(plain[0]), now(variable), rtol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("parts", [1, 3])
def test_adam_is_keras_s_own_also_where_gradients_are_clipped_gathered_or_slices(name, parts):
    """Twelve updates of an embedding table, whose gradients are slices with TensorFlow, and of a kernel."""
    options = TrainingOptions(optimizer=name, weight_decay=0.1)
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 90, warmup_target=0.01, warmup_steps=10)
    decay = {} if name == "adam" else {"weight_decay": 0.1}
    kind = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[name]
    models, rows = [], np.arange(60).reshape(12, 5) % 7
    for own in (True, False):
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [keras.Input((5,), dtype="int32"), keras.layers.Embedding(7, 4), keras.layers.Flatten()]
        )
        model.add(keras.layers.Dense(3))
        variables = model.trainable_variables
        if own:
            optimizer = build_optimizer(options, 0.01, 100, parts, variables=variables)
        else:
            optimizer = kind(schedule, global_clipnorm=1.0, **decay)
            optimizer.exclude_from_weight_decay(var_names=["bias"])
        loss = keras.losses.MeanSquaredError(reduction="sum")
        model.compile(optimizer=optimizer, loss=lambda y, given, loss=loss: 40.0 * loss(y, given), jit_compile=False)
        for row in rows:
            for _ in range(parts if own else 1):
                model.train_on_batch(row[None], np.ones((1, 3), np.float32))
        models.append(model)
    one, other = ([now(variable) for variable in model.trainable_variables] for model in models)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=1e-6)
    assert int(models[0].optimizer.iterations) == int(models[1].optimizer.iterations) == 12


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_gradient_that_is_no_number_is_seen_in_every_weight(bad):
    gradients = [np.array([bad, 0.0], np.float32), np.array([0.1, 0.2], np.float32)]
    variables, _ = updated(TrainingOptions(optimizer="adamw"), gradients, steps=2)
    assert all(np.isnan(now(variable)).all() for variable in variables)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="others trace for themselves")
def test_a_weight_more_adds_few_operations_to_a_step():
    """With Keras's own update each adds 50 operations, which are traced, optimised and executed in every step."""
    import tensorflow as tf

    def operations(count):
        variables = [
            keras.Variable(np.ones((3, 3, 2, 4), np.float32), name=f"kernel{number}") for number in range(count)
        ]
        optimizer = build_optimizer(
            TrainingOptions(), 0.01, 9, variables=variables, centralized={id(variable) for variable in variables}
        )
        gradients = [tf.ones(variable.shape) for variable in variables]
        step = tf.function(lambda *given: optimizer.apply(given, variables), autograph=False)
        return len(step.get_concrete_function(*gradients).graph.get_operations())

    assert operations(12) - operations(11) <= 16


def test_rates_fall_from_the_head_to_the_pixels(tiny_backbone):
    backbone = build_backbone(str(tiny_backbone))
    pooled = keras.layers.GlobalAveragePooling2D(name="head_pool_avg")(backbone.model.output)
    model = keras.Model(backbone.model.input, keras.layers.Dense(2, name="logits")(pooled))
    factors = rate_factors(model, backbone.blocks, 0.5)
    found = {variable.path: factors.get(id(variable), 1.0) for variable in model.trainable_variables}
    expected = {"block1_conv": 0.125, "block2_conv": 0.25, "block3_conv": 0.5, "logits": 1.0}
    assert {name: found[f"{name}/kernel"] for name in expected} == expected
    suffix = keras.Model(model.get_layer("block2_relu").output, model.output)
    assert rate_factors(suffix, backbone.blocks, 0.5).items() <= factors.items()


def test_very_deep_networks_have_no_more_than_twelve_rates():
    inputs = tensor = keras.Input((2,))
    blocks = []
    for number in range(50):
        tensor = keras.layers.Dense(2, name=f"dense{number}")(tensor)
        blocks.append(Block(f"block{number}", (f"dense{number}",), f"dense{number}"))
    model = keras.Model(inputs, tensor)
    factors = rate_factors(model, blocks, 0.8)
    rates = [factors[id(layer.kernel)] for layer in model.layers[1:]]
    assert rates == sorted(rates) and len(set(rates)) == 12
    assert rates[0] == pytest.approx(0.8**12) and rates[-1] == pytest.approx(0.8)


@pytest.mark.parametrize("batchnorm", ["frozen", "train"])
def test_rates_reach_the_weights_and_leave_frozen_normalisation_alone(tiny_backbone, batchnorm):
    backbone = build_backbone(str(tiny_backbone))
    pooled = keras.layers.GlobalAveragePooling2D(name="head_pool_avg")(backbone.model.output)
    model = keras.Model(backbone.model.input, keras.layers.Dense(2, name="logits")(pooled))
    options = TrainingOptions(optimizer="lion", weight_decay=0.0, layer_decay=0.1, batchnorm=batchnorm, ema=0.9)
    unfreeze_and_compile(model, options, blocks=backbone.blocks, learn=2, updates=Updates(0.1, 2))
    before = {weight.path: now(weight) for weight in model.weights}
    images = RANDOM.integers(0, 256, (8, 32, 32, 3)).astype(np.float32)
    for _ in range(2):
        model.train_on_batch(images, np.eye(2, dtype=np.float32)[np.arange(8) % 2])
    steps = {weight.path: np.abs(now(weight) - before[weight.path]).max() for weight in model.weights}
    # Lion moves every weight by its rate (Chen et al. 2023).
    expected = {"logits": 0.1, "block3_conv": 0.01, "block2_conv": 0.001, "block1_conv": 0.0}
    for name, size in expected.items():
        assert steps[f"{name}/kernel"] == pytest.approx(size, rel=1e-3)
    assert (steps["block3_bn/gamma"] == 0) == (batchnorm == "frozen")
    assert (steps["block3_bn/moving_mean"] == 0) == (batchnorm == "frozen")


@pytest.mark.parametrize("parts", [1, 2])
def test_the_average_of_the_weights_by_hand(parts):
    options = TrainingOptions(optimizer="sgd", momentum=0.0, weight_decay=0.0, ema=0.3)
    gradients = [np.array([0.3, 0.0], np.float32), np.array([0.0, 0.4], np.float32)]
    average, weights = np.float32([3.0, 4.0]), np.float32([3.0, 4.0])
    for update in range(8):
        weights = weights - np.float32([0.3, 0.0]) * 0.01 * update / 10
        momentum = min(0.3, (1 + update) / (10 + update))  # 0.1, 2/11, 0.25, 0.3, 0.3 ...
        average = momentum * average + (1 - momentum) * weights
    variables, optimizer = updated(options, gradients, parts=parts, steps=8)
    np.testing.assert_allclose(now(variables[0]), weights, rtol=1e-6)
    exchange_averages(optimizer)
    np.testing.assert_allclose(now(variables[0]), average, rtol=1e-6)
    exchange_averages(optimizer)
    np.testing.assert_allclose(now(variables[0]), weights, rtol=1e-6)


def test_what_is_carried_over_into_other_parts_has_the_averages_too():
    gradients = [np.array([0.3, 0.0], np.float32)] * 2
    _, old = updated(TrainingOptions(ema=0.9), gradients, steps=3)
    _, new = updated(TrainingOptions(ema=0.9), gradients, parts=2, steps=0)
    carry_over(old, new)
    assert int(new.iterations) == 3
    for (_, one), (_, other) in zip(old.averages(), new.averages(), strict=True):
        np.testing.assert_array_equal(now(one), now(other))
        assert (now(one) != [3.0, 4.0]).any()


@pytest.mark.parametrize("centralize", [True, False])
def test_filters_of_convolutions_keep_their_mean(centralize):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Conv2D(4, 3, name="convolution"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, name="logits"),
        ]
    )
    options = TrainingOptions(optimizer="sgd", weight_decay=0.0)
    unfreeze_and_compile(model, options, blocks=(), learn="all", updates=Updates(0.01, 20, centralize=centralize))
    before = {layer.name: now(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")}
    for _ in range(5):
        model.train_on_batch(RANDOM.normal(1, 1, (8, 6, 6, 3)), np.eye(3)[RANDOM.integers(0, 3, 8)])

    def moved(layer, axes):
        change = now(model.get_layer(layer).kernel) - before[layer]
        assert np.abs(change).max() > 1e-3
        return np.abs(change.mean(axis=axes)).max()

    assert (moved("convolution", (0, 1, 2)) < 1e-7) == centralize
    assert moved("depthwise", (0, 1)) > 1e-4 and moved("logits", 0) > 1e-4
