"""The pieces of the VAE: networks, kernel net, ELBO and every reconstruction term."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from inputs import images
from scipy import special
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import blurfft
from blurfft import psf, vae
from blurfft.vae import TERMS, BlurError, KernelNet, make_term
from blurfft.vae.terms import AdaptiveRobust, ReconstructionTerm, WatsonDFT
from blurfft.vae.terms.base import frozen_call
from blurfft.vae.terms.robust import general_loss, log_partition_table


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def term_of(name: str, image_shape: tuple[int, int, int] = (1, 8, 8), latent: int = 4) -> ReconstructionTerm:
    options: dict[str, object] = {}
    if name == "perceptual":
        options["features"] = nn.Sequential(nn.Conv2d(image_shape[0], 4, 3), nn.Tanh())
    if name == "blur":
        options |= {"kernel_size": 3, "kernel": "attached"}
    if name == "vae-gan":
        options["width"] = 8
    return make_term(name, image_shape, latent, **options)


def drawn(term: ReconstructionTerm, n: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    return torch.rand(n, *term.image_shape), torch.rand(n, *term.image_shape), torch.randn(n, term.latent)


@pytest.mark.parametrize("size", [28, 32, 60, 64, 96, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(size, channels):
    model = vae.VAE(size, channels, latent=5, width=8).to(torch.float32)
    mean, log_variance = model.encode(torch.rand(2, channels, size, size, dtype=torch.float32))
    assert mean.shape == log_variance.shape == (2, 5)
    assert model.decode(mean).shape == (2, *model.image_shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 30}, "size must be a multiple of 4 from 28 to 256, got 30"),
        ({"size": 512}, "size must be a multiple of 4 from 28 to 256, got 512"),
        ({"size": 32, "channels": 2}, "channels must be 1 or 3, got 2"),
        ({"size": 32, "latent": 0}, "latent must be at least 1, got 0"),
        ({"size": 32, "width": 12}, "width must be a positive multiple of 8, got 12"),
    ],
)
def test_refused_networks(arguments, message):
    with pytest.raises(ValueError, match=message):
        vae.VAE(**arguments)


def test_samples_follow_their_generator():
    model = vae.VAE(28, 1, latent=4, width=8)
    first, again = (model.sample(3, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.shape == (3, 1, 28, 28)
    assert torch.equal(first, again)
    assert not torch.equal(first, model.sample(3, torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("normalisation", ["softmax", "softplus"])
@pytest.mark.parametrize("size", [1, 4, 11, (3, 6)])
def test_kernels_are_kernels_near_the_initial_blur(normalisation, size):
    net = KernelNet(6, size, normalisation=normalisation)
    kernels = net(torch.randn(5, 6))
    assert kernels.shape == (5, 1, *net.kernel_size)
    assert (kernels > 0).all()
    torch.testing.assert_close(kernels.sum((1, 2, 3)), torch.ones(5))
    if size == 11:
        initial = psf.gaussian(11 / 8, 11, dtype=torch.float64)
        assert (kernels - initial).abs().max() < 0.3 * initial.max()


def test_a_given_initial_blur():
    initial = psf.motion(3, 30, dtype=torch.float64)
    net = KernelNet(6, tuple(initial.shape), initial=initial)
    nn.init.zeros_(net.taps.weight)
    assert (net(torch.zeros(1, 6))[0, 0] - initial).abs().max() < 1e-2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 0}, "kernel_size must be a positive int or two of them, got 0"),
        ({"kernel_size": 5.0}, "kernel_size must be a positive int or two of them, got 5.0"),
        ({"kernel_size": "55"}, "kernel_size must be a positive int or two of them, got '55'"),
        ({"kernel_size": True}, "kernel_size must be a positive int or two of them, got True"),
        ({"hidden": 0}, "hidden must be a positive int, got 0"),
        ({"normalisation": "l2"}, "normalisation must be 'softmax' or 'softplus', got 'l2'"),
        ({"kernel_size": 3, "initial": torch.ones(5, 5)}, r"initial must be a tensor of shape \(3, 3\), got shape"),
        ({"kernel_size": 3, "initial": [1.0]}, r"initial must be a tensor of shape \(3, 3\), got list"),
        ({"kernel_size": 3, "initial": torch.full((3, 3), torch.nan)}, "initial must be finite, .* from nan to nan"),
        ({"kernel_size": 3, "initial": torch.zeros(3, 3)}, "initial must be .* somewhere above 0, .* from 0 to 0"),
    ],
)
def test_refused_kernel_nets(arguments, message):
    with pytest.raises(ValueError, match=message):
        KernelNet(4, **arguments)


def test_kernels_recover_a_known_blur():
    """From pairs (x, k ∗ x): two blurs, told apart by z."""
    truth = torch.stack([psf.gaussian(0.8, 5), psf.disk(2)])[:, None].double()  # (2, 1, 5, 5)
    x = images((2, 1, 24, 24))
    blurred, z = blurfft.blur(x, truth), torch.eye(2)
    term = BlurError((1, 24, 24), latent=2, kernel_size=5)
    optimizer = torch.optim.LBFGS(term.kernel_net.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = term.auxiliary_loss(blurred, x, z)
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    assert (term.kernels(z) - truth).abs().max() < 0.02 * truth.max()


def test_kl_divergence():
    mean, log_variance = torch.randn(3, 4), torch.randn(3, 4)
    truth = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(vae.kl_divergence(mean, log_variance), truth)


def test_bits_of_a_uniform_density_are_eight():
    assert vae.bits_per_dimension(0.0, 10) == 8
    # A density of 2 on half of the range saves one bit per value.
    assert vae.bits_per_dimension(-10 * math.log(2), 10) == pytest.approx(7)


def test_dequantised_values_stay_in_their_level():
    pixels = torch.arange(256, dtype=torch.uint8)
    values = vae.dequantise(pixels, torch.rand(256))
    assert torch.equal((values * 256).floor().to(torch.uint8), pixels)


@pytest.mark.parametrize("sensitivity", [1.0, 1e3])
def test_the_rate_is_brought_to_where_it_should_be(sensitivity):
    control = vae.RateController(rate=20.0)
    for _ in range(2000):
        control.update(sensitivity / control.beta)
    assert (sensitivity / control.beta).item() == pytest.approx(20, rel=1e-3)


@pytest.mark.parametrize("name", TERMS)
def test_term_is_differentiable(name):
    term = term_of(name)
    input, target, z = drawn(term)
    values = term(input, target, z)
    assert values.shape in ((), (2,))
    assert values.isfinite().all()
    if name != "focal-frequency":  # its weights count as constants
        z = z.requires_grad_(name == "blur")
        assert torch.autograd.gradcheck(lambda x, z: term(x, target, z), (input.requires_grad_(), z))


@pytest.mark.parametrize("name", TERMS)
def test_term_is_least_at_the_target(name):
    term = term_of(name)
    _, target, z = drawn(term)
    target = 0.25 + target / 2
    noise = 0.1 * torch.randn(2, *term.image_shape)
    at_target, away = term(target, target, z), term((target + noise).clamp(0, 1), target, z)
    if name != "vae-gan":  # its adversary may prefer the noise
        assert (at_target < away).all()


@pytest.mark.parametrize("name", [name for name, term in TERMS.items() if term.why_no_density is None])
def test_densities_integrate_to_one(name):
    options = {"kernel_size": 1} if name == "blur" else {}
    term = make_term(name, (1, 1, 2), 4, **options)
    if isinstance(term, AdaptiveRobust):
        nn.init.uniform_(term.shape, 0, 3)
    axis = torch.linspace(-2, 2, 201)
    points = torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
    input = torch.tensor([0.2, -0.1]).expand(len(points), 1, 1, 2)
    density = torch.exp(-term(input, points, torch.randn(1, 4).expand(len(points), -1)))
    total = density.sum() * (axis[1] - axis[0]) ** 2
    # The trapezoidal rule is off by (step / scale)² / 12 where a density has a kink.
    assert total.item() == pytest.approx(1, abs=1e-2)


def test_blur_error_is_the_dense_gaussian():
    term = BlurError((2, 4, 5), latent=3, kernel_size=3, nsr=0.05, eps=0.1, sigma=0.3)
    input, target, z = drawn(term, n=3)
    for i, kernel in enumerate(term.kernels(z)):
        basis = torch.eye(20).view(20, 1, 4, 5)
        W = blurfft.wiener_filter(basis, kernel[None], 0.05).view(20, 20).T
        precision = torch.block_diag(*[(W.T @ W + 0.1 * torch.eye(20)) / 0.3**2] * 2)
        truth = -MultivariateNormal(input[i].flatten(), precision_matrix=precision).log_prob(target[i].flatten())
        torch.testing.assert_close(term(input[i, None], target[i, None], z[i, None])[0], truth)


def test_learned_variance_finds_the_error():
    """At the best sigma, its square is the mean squared error."""
    term = make_term("gaussian", (1, 8, 8), 4)
    input, target, z = drawn(term)
    with torch.no_grad():
        term.log_sigma.copy_((input - target).square().mean().sqrt().log())
    term(input, target, z).mean().backward()
    assert term.log_sigma.grad.abs() < 1e-9  # type: ignore[union-attr]


def test_robust_partition_function():
    """Known in closed form for α = 0, 1 and 2; the table ends 0.001 from 0 and 2."""
    table = log_partition_table().exp()
    assert table[500].item() == pytest.approx(2 * math.e * special.k1(1), rel=1e-9)
    assert table[0].item() == pytest.approx(math.pi * math.sqrt(2), rel=2e-3)
    assert table[-1].item() == pytest.approx(math.sqrt(2 * math.pi), rel=2e-3)


def test_robust_loss_special_cases():
    x = torch.linspace(-5, 5, 101)
    torch.testing.assert_close(general_loss(x, torch.tensor(1.0)), (x.square() + 1).sqrt() - 1)
    torch.testing.assert_close(general_loss(x, torch.tensor(1e-9)), (x.square() / 2 + 1).log())
    torch.testing.assert_close(general_loss(x, torch.tensor(2 - 1e-9)), x.square() / 2, rtol=1e-6, atol=0)


def test_watson_forgives_where_there_is_contrast():
    """The same error counts less on a strong texture than on a plain ground."""
    term = WatsonDFT((1, 16, 16), latent=1)
    plain = torch.full((1, 1, 16, 16), 0.5)
    stripes = plain + 0.4 * torch.cos(math.pi / 2 * torch.arange(16.0))
    error = 0.02 * torch.cos(math.pi / 2 * torch.arange(16.0))
    z = torch.zeros(1, 1)
    assert term(stripes + error, stripes, z) < 0.9 * term(plain + error, plain, z)


def test_watson_of_blocks_of_four():
    assert WatsonDFT((1, 28, 28), latent=1).block == 4
    assert WatsonDFT((3, 32, 32), latent=1).block == 8


def test_features_of_the_user_stay_as_they_are():
    features = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8))
    term = make_term("perceptual", (1, 8, 8), 4, features=features).train()
    before = [t.clone() for t in features.state_dict().values()]
    input, target, z = drawn(term)
    term(input.requires_grad_(), target, z).mean().backward()
    assert input.grad is not None and input.grad.abs().max() > 0
    assert all(map(torch.equal, before, features.state_dict().values()))
    assert list(term.own_parameters()) == []


@pytest.mark.parametrize("kernel", ["attached", "detached"])
def test_gradients_flow_where_they_should(kernel):
    term = BlurError((1, 8, 8), latent=4, kernel_size=3, kernel=kernel)
    input, target, z = drawn(term)
    input.requires_grad_(), z.requires_grad_()
    term(input, target, z).mean().backward()
    assert input.grad is not None and input.grad.abs().max() > 0
    assert term.log_sigma.grad is not None and term.log_sigma.grad.abs() > 0
    assert (z.grad is not None and z.grad.abs().max().item() > 0) == (kernel == "attached")
    assert all(p.grad is None for p in term.kernel_net.parameters())

    input.grad = z.grad = term.log_sigma.grad = None
    term.auxiliary_loss(input, target, z).backward()
    assert input.grad is None and z.grad is None and term.log_sigma.grad is None
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in term.kernel_net.parameters())


def test_frozen_call_is_the_call():
    net = KernelNet(4, 3)
    z = torch.randn(2, 4)
    assert torch.equal(frozen_call(net, z), net(z))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TERMS)
def test_own_parameters_and_those_of_the_network_are_all(name):
    term = term_of(name)
    own = list(term.own_parameters())
    others = list(term.auxiliary.parameters()) if term.auxiliary is not None else []
    trainable = [p for p in term.parameters() if p.requires_grad]
    assert {*own, *others} == {*trainable}
    assert not {*own} & {*others}


@pytest.mark.parametrize("name", TERMS)
def test_images_that_a_term_was_not_made_for(name):
    term = term_of(name)
    x, y, z = drawn(term)
    for arguments, message in (
        ((x[..., :4], y[..., :4], z), r"input must be \(2, 1, 8, 8\), got \(2, 1, 8, 4\)"),
        ((x, y[:1], z), r"target must be \(2, 1, 8, 8\), got \(1, 1, 8, 8\)"),
        ((x, y, z[:, :3]), r"z must be \(2, 4\), got \(2, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            term(*arguments)
    with pytest.raises(ValueError, match="image_shape must be three positive ints"):
        term_of(name, (8, 8))  # type: ignore[arg-type]


def test_an_unknown_term():
    with pytest.raises(ValueError, match=r"must be one of mse, gaussian, .*, got 'l2'"):
        make_term("l2", (1, 8, 8), 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 9}, "kernel_size must be at most the image's side, 8, got 9"),
        ({"kernel": "loose"}, "kernel must be 'attached' or 'detached', got 'loose'"),
        ({"eps": 0.0}, "eps must be a finite number above 0, got 0.0"),
        ({"nsr": -1.0}, "nsr"),
        ({"sigma": 0.0}, "sigma must be a finite number above 0, got 0.0"),
        ({"eps": None}, "eps must be a finite number above 0, got None"),
        ({"kernel_size": (3, 9)}, "kernel_size must be at most the image's side, 8, got \\(3, 9\\)"),
        ({"kernel_size": 2.5}, "kernel_size must be a positive int or two of them, got 2.5"),
    ],
)
def test_refused_blur_terms(options, message):
    with pytest.raises(ValueError, match=message):
        BlurError((1, 8, 8), latent=4, **{"kernel_size": 3, **options})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mse", {"sigma": 0}, "sigma must be a finite number above 0, got 0"),
        ("gaussian", {"sigma": math.inf}, "sigma must be a finite number above 0, got inf"),
        ("laplace", {"scale": -1.0}, "scale must be a finite number above 0, got -1.0"),
        ("vae-gan", {"width": 3}, "width must be a positive multiple of 4, got 3"),
    ],
)
def test_refused_options_of_terms(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_term(name, (1, 8, 8), 4, **options)


def test_kernels_of_unequal_sides():
    assert BlurError((1, 8, 16), latent=4, kernel_size=(3, 9)).kernels(torch.randn(2, 4)).shape == (2, 1, 3, 9)


def test_only_a_term_with_a_network_has_an_auxiliary_objective():
    with pytest.raises(ValueError, match="MSE has no network of its own"):
        vae.AuxiliaryObjective(make_term("mse", (1, 8, 8), 4))


PAGE = Path(__file__).resolve().parents[1] / "docs" / "vae.md"


@pytest.mark.skipif(not PAGE.is_file(), reason="the folder docs is not beside the tests: it is not installed")
def test_the_loop_of_the_page():
    code = next(block for block in PAGE.read_text().split("```") if "from blurfft.vae import" in block)
    model = vae.VAE(64, 3, latent=128, width=8)
    names = {"torch": torch, "model": model, "loader": [torch.rand(2, 3, 64, 64)]}
    before = [p.detach().clone() for p in model.parameters()]
    exec(code.removeprefix("python"), names)
    assert all(not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    term = names["term"]
    assert isinstance(term, BlurError)
    fresh = KernelNet(128).taps.bias  # the same in every new instance
    assert fresh.shape == term.kernel_net.taps.bias.shape
    assert not torch.equal(term.kernel_net.taps.bias, fresh)


@pytest.mark.parametrize(
    "thing",
    [
        vae.VAE,
        KernelNet,
        BlurError,
        vae.Objective,
        vae.AuxiliaryObjective,
        vae.RateController,
        vae.kl_divergence,
        vae.dequantise,
        vae.bits_per_dimension,
    ],
    ids=lambda thing: thing.__name__,
)
def test_example(thing):
    import doctest

    torch.set_default_dtype(torch.float32)
    names = {**vars(vae), "torch": torch}
    found = doctest.DocTestFinder(recurse=False).find(thing, thing.__name__, globs=names)
    assert found and found[0].examples
    runner = doctest.DocTestRunner()
    for test in found:
        runner.run(test)
    assert runner.failures == 0
