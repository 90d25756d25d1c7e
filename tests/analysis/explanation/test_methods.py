"""Every method against a closed form, a library, or a patch that was planted."""

import numpy as np
import paddle
import pytest
from paddle import nn
from sklearn.linear_model import LinearRegression
from small_models import build

from ppcls_ext import registry
from ppcls_ext.analysis.explanation.errors import ExplanationError
from ppcls_ext.analysis.explanation.faithfulness import faithfulness
from ppcls_ext.analysis.explanation.gradcam import default_layer, gradcam
from ppcls_ext.analysis.explanation.integrated_gradients import integrated_gradients
from ppcls_ext.analysis.explanation.lime import LimeOptions, fit, lime, segment_means
from ppcls_ext.analysis.explanation.occlusion import occlusion
from ppcls_ext.analysis.explanation.rollout import rollout
from ppcls_ext.analysis.explanation.smoothgrad import smoothgrad
from ppcls_ext.arch.layers.attention_recording import record_attention

SIDE = 16
#: Of the patch that alone decides: rows and columns.
PATCH = (slice(4, 8), slice(8, 12))


class Planted(nn.Layer):
    """Logits: the brightness of one patch, squared, after a convolution that does nothing; and 0."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 3, 1, bias_attr=False)
        self.conv.weight.set_value(np.eye(3, dtype=np.float32)[:, :, None, None])
        mask = np.zeros((1, 1, SIDE, SIDE), np.float32)
        mask[0, 0][PATCH] = 1 / 48
        self.register_buffer("mask", paddle.to_tensor(mask))

    def forward(self, x):
        bright = (self.conv(x) * self.mask).sum(axis=[1, 2, 3])
        return paddle.stack([4 * bright * bright.abs(), paddle.zeros_like(bright)], axis=1)


def noise(seed=0):
    return np.random.default_rng(seed).uniform(0.5, 1.5, (3, SIDE, SIDE)).astype(np.float32)


def score_of(model):
    def score(images):
        with paddle.no_grad():
            return nn.functional.softmax(model(paddle.to_tensor(images)), axis=-1).numpy()

    return score


METHODS = {
    "integrated_gradients": lambda model, image: integrated_gradients(model, image, 0).map,
    "smoothgrad": lambda model, image: smoothgrad(model, image, 0),
    "gradcam": lambda model, image: gradcam(model, image * inside(), 0),
    "occlusion": lambda model, image: occlusion(score_of(model), image, 0, window=4, stride=2),
}


def inside():
    """Grad-CAM weighs channels, not places: it finds where a channel is active."""
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[PATCH] = 1
    return mask


@pytest.mark.compat
@pytest.mark.parametrize("name", METHODS)
def test_a_planted_patch_is_found(name):
    found = METHODS[name](Planted(), noise())
    assert found.shape == (SIDE, SIDE) and found.dtype == np.float32
    mass = np.maximum(found, 0)
    assert mass[PATCH].sum() > 0.5 * mass.sum() and mass[PATCH].mean() > 5 * mass.mean()


def test_lime_finds_the_superpixel_of_the_patch():
    """A bright patch in the middle of a superpixel of 8 x 8: its mean colour is a quarter as bright."""
    rows, columns = np.indices((SIDE, SIDE)) // 8
    image = np.repeat(inside()[None], 3, axis=0)
    found = lime(score_of(Planted()), image, 0, rows * 2 + columns)
    assert found[PATCH].min() > 0.1 and np.abs(found[8:]).max() < 0.02 and np.abs(found[:8, :8]).max() < 0.02


def test_integrated_gradients_of_a_square_by_hand():
    """Of 4 b², the gradient at the part t of the way is 8 t b a: the integral gives each pixel its share of 4 b²."""
    model, image = Planted(), noise()
    found, error = integrated_gradients(model, image, 0, steps=3)  # the midpoint rule is exact for a line
    bright = image[(slice(None), *PATCH)].sum() / 48
    expected = np.zeros((SIDE, SIDE))
    expected[PATCH] = 4 * bright * image[(slice(None), *PATCH)].sum(axis=0) / 48
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
    assert error < 1e-5


def test_completeness_tells_of_too_few_steps():
    paddle.seed(0)
    model = build(registry.get_spec("Sequencer2D_S"))
    model.eval()
    image = np.random.default_rng(0).standard_normal((3, 56, 56)).astype(np.float32)
    assert integrated_gradients(model, image, 1, steps=200).completeness_error < 0.05


def test_smoothgrad_by_hand():
    """The gradient of 4 b² is 8 b a_i: its mean over the noise is that of b, which has the image's mean."""
    found = smoothgrad(Planted(), noise(), 0, samples=400, noise=0.05)
    expected = 8 * noise()[(slice(None), *PATCH)].sum() / 48 / 48
    np.testing.assert_allclose(found[PATCH], expected, rtol=0.01)
    assert not found[:4].any()


def test_gradcam_by_hand():
    class Net(nn.Layer):
        """Two channels: the left half, which speaks for class 0 by weight 2, and all, by weight -1."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2D(1, 2, 1, bias_attr=False)
            self.conv.weight.set_value(np.array([1, 1], np.float32).reshape(2, 1, 1, 1))
            self.fc = nn.Linear(2, 2)
            self.fc.weight.set_value(np.array([[2, 0], [-1, 1]], np.float32))

        def forward(self, x):
            return self.fc(self.conv(x).mean(axis=[2, 3]))

    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    # Each channel's gradient is its weight / 16 everywhere: relu(2 x - x) / 16.
    np.testing.assert_allclose(gradcam(Net(), image, 0), image[0] / 16, rtol=1e-6)
    assert not gradcam(Net(), -image, 0).any()


def test_lime_is_the_weighted_ridge_regression():
    rng = np.random.default_rng(0)
    kept = rng.integers(0, 2, (60, 5))
    kept[0] = 1
    probabilities = kept @ [0.3, -0.1, 0.0, 0.2, 0.05] + 0.1
    options = LimeOptions(kernel_width=0.4, alpha=0.7)
    # Solved by hand: centred by weighted means, (X'WX + alpha I) c = X'Wy.
    cosine = kept.sum(axis=1) / np.sqrt(5 * np.maximum(kept.sum(axis=1), 1))
    cosine[kept.sum(axis=1) == 0] = 0
    weights = np.sqrt(np.exp(-((1 - cosine) ** 2) / 0.4**2))
    x = kept - np.average(kept, axis=0, weights=weights)
    y = probabilities - np.average(probabilities, weights=weights)
    expected = np.linalg.solve(x.T @ (weights[:, None] * x) + 0.7 * np.eye(5), x.T @ (weights * y))
    np.testing.assert_allclose(fit(kept, probabilities, options), expected, rtol=1e-8)
    # Without a penalty it finds what the probabilities were made of, whatever the weights.
    free = fit(kept, probabilities, LimeOptions(alpha=1e-9))
    np.testing.assert_allclose(free, LinearRegression().fit(kept, probabilities).coef_, atol=1e-6)


def test_superpixels_in_their_mean_colour():
    image = np.stack([np.arange(4.0).reshape(2, 2), np.ones((2, 2))])
    found = segment_means(image, np.array([[0, 0], [0, 1]]), 2)
    assert found.tolist() == [[[1, 1], [1, 3]], [[1, 1], [1, 1]]]


def test_rollout_by_hand():
    """The layers that record_attention gives, multiplied with numpy."""
    model = build(registry.get_spec("ViT_S_16_224"))
    model.eval()
    image = np.random.default_rng(1).standard_normal((3, 56, 28)).astype(np.float32)
    found = rollout(model, image)
    with record_attention(model) as maps, paddle.no_grad():
        model(paddle.to_tensor(image[None]))
    total = np.eye(9)
    for (probabilities,) in maps.values():
        total = (0.5 * probabilities.numpy()[0].mean(axis=0) + 0.5 * np.eye(9)) @ total
    assert len(maps) >= 2 and found.shape == (56, 28)
    np.testing.assert_allclose(total.sum(axis=1), 1, rtol=1e-5)
    # Enlarged bilinearly, the middle of a patch of the corner keeps the patch's value.
    np.testing.assert_allclose(found[0, 0], total[0, 1], rtol=1e-5)
    np.testing.assert_allclose(found[-1, -1], total[0, 8], rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["ResNet18", "Sequencer2D_S", "ViP_Small_7", "DilateFormer_Tiny", "Mixer_S_32_224", "ViT_S_16_224"]
)
def test_every_family_has_a_layer(name):
    model = build(registry.get_spec(name))
    model.eval()
    image = np.random.default_rng(0).standard_normal((3, 56, 84)).astype(np.float32)
    maps = [gradcam(model, image, class_id) for class_id in range(5)]
    assert all(found.shape == (56, 84) and (found >= 0).all() for found in maps)
    assert any(found.std() > 0 for found in maps), "a class has a map that is not flat"


def test_a_network_of_others():
    model = nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(4, 2))
    model.eval()
    assert default_layer(model, paddle.zeros([1, 3, 9, 9])) == "1"
    with pytest.raises(ExplanationError, match="no layer '11'; did you mean 1"):
        gradcam(model, np.zeros((3, 9, 9), np.float32), 0, "11")
    with pytest.raises(ExplanationError, match=r"'4' gives \[1, 2\], which is no map"):
        gradcam(model, np.zeros((3, 9, 9), np.float32), 0, "4")
    with pytest.raises(ExplanationError, match="no layer of Sequential gives a map"):
        default_layer(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), paddle.zeros([1, 3, 1, 1]))


def test_deletion_and_insertion_by_hand():
    """A model whose probability is the share of bright pixels: both curves are straight lines, in any order."""

    def score(images):
        share = images.mean(axis=(1, 2, 3))
        return np.stack([share, 1 - share], axis=1)

    image = np.ones((1, 10, 10), np.float32)
    order = np.random.default_rng(0).permutation(100).reshape(10, 10).astype(np.float32)
    deletion, insertion = faithfulness(score, image, 0, order, steps=10)
    assert deletion == pytest.approx(0.5) and insertion == pytest.approx(1.0)  # a blurred white image is white


def test_the_right_map_is_more_faithful_than_its_opposite():
    model, image = Planted(), noise() * (0.2 + inside())
    found = occlusion(score_of(model), image, 0, window=4, stride=2)
    right, wrong = (faithfulness(score_of(model), image, 0, map_) for map_ in (found, -found))
    assert right.deletion < wrong.deletion and right.insertion > wrong.insertion


def test_occlusion_covers_all_pixels_alike():
    def score(images):
        share = (images != 0).mean(axis=(1, 2, 3))
        return np.stack([share, 1 - share], axis=1)

    found = occlusion(score, np.ones((1, 12, 12), np.float32), 0, window=4, stride=2)
    assert found[2:10, 2:10].std() < 1e-7 and found[5, 5] == pytest.approx(16 / 144)


class Broken(nn.Layer):
    """Gives NaN, or nothing that depends on the image."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return x.mean(axis=[2, 3]) * self.value if self.value else paddle.ones([len(x), 3])


def test_what_cannot_be_explained():
    image = noise()
    with pytest.raises(ExplanationError, match="not finite"):
        integrated_gradients(Broken(float("nan")), image, 0)
    with pytest.raises(ExplanationError, match="gives no gradients"):
        smoothgrad(Broken(0), image, 0)
    with pytest.raises(ExplanationError, match="Planted has none. It is defined for ViT"):
        rollout(Planted(), image)
