"""Does a feature that is seen more often share its direction less? The toy experiment of arXiv 2505.04741, section 2.

    python recipes/entanglement.py --output_dir runs/entanglement

As reported of the paper: a transformer of 4 layers with a residual stream of 4 dimensions; 12 features, which are the states of 3
cyclic Markov chains of 4 states; the share of one chain in the data is varied, over 10 seeds; the entanglement of its features, the
largest |cosine| of a feature's direction with another's, falls from about .95 to about .8 as the share grows. What that leaves open is
chosen here: a sequence belongs to one chain, and a state is followed by the next one of its circle or, with probability `--noise`, by
any of its circle. A feature's direction is the mean of the residual stream before the output head where the current token is that
state, minus the mean over all other states, on *balanced* data, so that the share acts through training alone; or the column of the
output head. All shares read the same number of sequences. Beside it the autoencoder x' = relu(W^T W x + b) with 12 sparse features in
4 dimensions (Elhage et al. 2022, Toy models of superposition), whose directions are the columns of W and need no estimate.

All runs (shares times seeds) train at once, as one batched model: under a minute on one core. `--smoke` takes seconds.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from detox.cli.flags import guarded, parse
from detox.probing.entanglement import largest_cosines, random_largest_cosine, welch_bound

CHAINS, STATES, WIDTH, LAYERS, HIDDEN, LENGTH = 3, 4, 4, 4, 16, 12
FEATURES = CHAINS * STATES


@dataclass
class ScriptArguments:
    """What is trained, and where figure and record go."""

    output_dir: str = field(metadata={"help": "where entanglement.json and the figures go"})
    model: str = field(default="both", metadata={"help": "transformer, autoencoder or both"})
    shares: list[float] = field(
        default_factory=lambda: [0.01, 0.03, 0.1, 0.2, 0.333], metadata={"help": "of the rare chain in the data"}
    )
    seeds: int = field(default=5, metadata={"help": "runs a share"})
    steps: int = field(default=1000, metadata={"help": "of the transformer; the autoencoder takes three times as many"})
    batch_size: int = field(default=16, metadata={"help": "sequences a step and run"})
    learning_rate: float = field(default=1e-2, metadata={"help": "of Adam, falling to nothing in a cosine"})
    noise: float = field(default=0.1, metadata={"help": "probability of a step to any state of the circle"})
    smoke: bool = field(default=False, metadata={"help": "two shares, two seeds, few steps"})


def main() -> None:
    from detox.errors import InputError
    from detox.files import require_writable, write_json

    (script,) = parse([ScriptArguments], description=__doc__)
    if script.model not in ("transformer", "autoencoder", "both"):
        raise InputError(f"--model is {script.model!r}; expected transformer, autoencoder or both")
    if len(script.shares) < 2 or not all(0 < share < 1 for share in script.shares) or script.seeds < 2:
        raise InputError("expected at least two shares, each in (0, 1), and at least two seeds")
    if script.smoke:
        script.shares, script.seeds, script.steps = script.shares[:: len(script.shares) - 1], 2, 40
    output = require_writable(script.output_dir)

    bounds = {"welch": welch_bound(FEATURES, WIDTH), "random": random_largest_cosine(FEATURES, WIDTH)}
    print(f"12 features in 4 dimensions: Welch's bound {bounds['welch']:.3f}, random directions {bounds['random']:.3f}")
    models = {"transformer": transformer, "autoencoder": autoencoder}
    record = {"settings": {k: v for k, v in vars(script).items() if k != "output_dir"}, "bounds": bounds, "models": {}}
    for name, train in models.items():
        if script.model not in (name, "both"):
            continue
        # 1. Train all runs at once; a run is a share and a seed.
        found = train(script)

        # 2. Entanglement of each feature in every run; the rare chain's features are the last four.
        entangled = {}
        for kind, directions in found["directions"].items():
            values = largest_cosines(directions).reshape(len(script.shares), script.seeds, CHAINS, STATES).mean(-1)
            entangled[kind] = {"rare": values[:, :, -1], "common": values[:, :, :-1].mean(-1)}

        # 3. What changes from the rarest to the most frequent: by seed, and its interval over seeds.
        record["models"][name] = {"loss": summary(found["loss"]), "entanglement": {}}
        for kind, groups in entangled.items():
            trend = groups["rare"][-1] - groups["rare"][0]
            record["models"][name]["entanglement"][kind] = {
                **{group: [interval(row) | {"seeds": row.tolist()} for row in rows] for group, rows in groups.items()},
                "rare, last share minus first": interval(trend) | {"seeds": trend.tolist()},
            }
            change = interval(trend)
            rows = ", ".join(
                f"{share:g}: {row.mean():.3f}" for share, row in zip(script.shares, groups["rare"], strict=True)
            )
            print(f"{name}, {kind}: largest cosine of the rare chain by its share: {rows}")
            ends = f"{script.shares[0]:g} to {script.shares[-1]:g}"
            print(f"  from {ends}: {change['value']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]")
        nats = [round(row["value"], 3) for row in record["models"][name]["loss"]["rare"]]
        print(f"  {name}: loss of the rare chain by its share {nats}")

    # 4. The record and the figure.
    write_json(output / "entanglement.json", rounded(record))
    draw(record, script, output)
    print(f"saved in {output}")


def transformer(script):
    """A transformer of 4 layers and 4 dimensions, one for every share and seed, trained side by side."""
    runs = len(script.shares) * script.seeds
    shares = torch.tensor(script.shares).repeat_interleave(script.seeds)
    # A run's seed is its own, whatever runs beside it.
    generators = [torch.Generator().manual_seed(1000 + seed) for _ in script.shares for seed in range(script.seeds)]

    def normal(*shape, scale):
        return torch.stack([torch.randn(shape, generator=g) * scale for g in generators]).requires_grad_()

    parameters = {"embed": normal(FEATURES, WIDTH, scale=0.5), "place": normal(LENGTH, WIDTH, scale=0.1)}
    parameters["head"] = normal(WIDTH, FEATURES, scale=0.5)
    for layer in range(LAYERS):
        for name in ("query", "key", "value", "out"):
            parameters[f"{layer}/{name}"] = normal(WIDTH, WIDTH, scale=WIDTH**-0.5)
        parameters[f"{layer}/up"] = normal(WIDTH, HIDDEN, scale=WIDTH**-0.5)
        parameters[f"{layer}/down"] = normal(HIDDEN, WIDTH, scale=HIDDEN**-0.5)
    future = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)

    def residual(tokens):  # (runs, batch, length) -> (runs, batch, length, width)
        p = parameters
        x = p["embed"][torch.arange(runs)[:, None, None], tokens] + p["place"][:, None]
        for layer in range(LAYERS):
            flat = normed(x).flatten(1, 2)
            q, k, v = ((flat @ p[f"{layer}/{name}"]).view_as(x) for name in ("query", "key", "value"))
            attention = (q @ k.transpose(-1, -2) / WIDTH**0.5 + future).softmax(-1)
            x = x + ((attention @ v).flatten(1, 2) @ p[f"{layer}/out"]).view_as(x)
            up = torch.relu(normed(x).flatten(1, 2) @ p[f"{layer}/up"])
            x = x + (up @ p[f"{layer}/down"]).view_as(x)
        return x

    def losses(tokens):  # (runs, batch, length - 1) nats
        logits = (normed(residual(tokens)).flatten(1, 2) @ parameters["head"]).view(*tokens.shape, FEATURES)
        logprobs = logits[:, :, :-1].log_softmax(-1)
        return -logprobs.gather(-1, tokens[:, :, 1:, None])[..., 0]

    def train_step(step):
        chains = torch.stack(
            [pick_chain(float(s), script.batch_size, g) for s, g in zip(shares, generators, strict=True)]
        )
        return losses(sequences(chains, script.noise, generators)).mean((1, 2)).sum()

    descend(list(parameters.values()), train_step, script.steps, script.learning_rate)

    # Directions from data in which every state comes equally often.
    balanced = torch.arange(CHAINS).repeat(160).expand(runs, -1)
    judges = [torch.Generator().manual_seed(10_000 + run % script.seeds) for run in range(runs)]
    with torch.no_grad():
        tokens = sequences(balanced, script.noise, judges)
        hidden, nats = residual(tokens).double(), losses(tokens)
        by_chain = torch.stack([nats[:, balanced[0] == chain].mean((1, 2)) for chain in range(CHAINS)], dim=1)
    x, state = hidden.flatten(1, 2), tokens.flatten(1)
    means = torch.stack(
        [(x * (state == i)[..., None]).sum(1) / (state == i).sum(1, keepdim=True) for i in range(FEATURES)], 1
    )
    others = (means.sum(1, keepdim=True) - means) / (FEATURES - 1)
    head = parameters["head"].detach().double().transpose(1, 2)
    directions = {"residual stream": (means - others).numpy(), "output head": head.numpy()}
    return {"directions": directions, "loss": by_chain.view(len(script.shares), script.seeds, CHAINS).numpy()}


def autoencoder(script):
    """relu(W^T W x + b) of 12 sparse features in 4 dimensions; the last four are rare. Columns of W are the directions."""
    runs = len(script.shares) * script.seeds
    shares = torch.tensor(script.shares).repeat_interleave(script.seeds)
    generators = [torch.Generator().manual_seed(2000 + seed) for _ in script.shares for seed in range(script.seeds)]
    w = torch.stack([torch.randn(WIDTH, FEATURES, generator=g) * 0.4 for g in generators]).requires_grad_()
    b = torch.zeros(runs, 1, FEATURES, requires_grad=True)
    # A feature of a common chain is there in a tenth of the inputs. `share` is that of the rare chain among all that is there.
    often = torch.full((runs, 1, FEATURES), 0.1)
    often[:, :, -STATES:] = (0.1 * (CHAINS - 1) * shares / (1 - shares))[:, None, None]

    def errors(there, size):
        x = there * size
        return (x - torch.relu((x @ w.transpose(1, 2)) @ w + b)) ** 2

    def train_step(step):
        draws = torch.stack([torch.rand(2, 64, FEATURES, generator=g) for g in generators])
        return errors((draws[:, 0] < often).float(), draws[:, 1]).mean((1, 2)).sum()

    descend([w, b], train_step, 3 * script.steps, script.learning_rate)
    with torch.no_grad():  # balanced: every feature is there alone, at full size
        alone = torch.eye(FEATURES).expand(runs, -1, -1)
        loss = errors(alone, torch.ones(())).sum(-1).view(len(script.shares), script.seeds, CHAINS, STATES).mean(-1)
    return {"directions": {"columns of W": w.detach().double().transpose(1, 2).numpy()}, "loss": loss.numpy()}


def normed(x):
    return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt()


def pick_chain(share, count, generator):
    """(count,) chains; the last has the share, the others divide the rest."""
    draws = torch.rand(count, generator=generator)
    return torch.where(
        draws < share, CHAINS - 1, ((draws - share) / (1 - share) * (CHAINS - 1)).long().clamp(0, CHAINS - 2)
    )


def sequences(chains, noise, generators):
    """(runs, batch, length) tokens: walks around the circle of each sequence's chain."""
    count = chains.shape[1]
    start = torch.stack([torch.randint(STATES, (count,), generator=g) for g in generators])
    stray = torch.stack([torch.rand(count, LENGTH, generator=g) for g in generators]) < noise
    anywhere = torch.stack([torch.randint(STATES, (count, LENGTH), generator=g) for g in generators])
    states = [start]
    for step in range(1, LENGTH):
        states.append(torch.where(stray[:, :, step], anywhere[:, :, step], (states[-1] + 1) % STATES))
    return chains[..., None] * STATES + torch.stack(states, dim=-1)


def descend(parameters, train_step, steps, learning_rate):
    from tqdm import tqdm

    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in tqdm(range(steps), desc="training", delay=3, disable=None):
        optimizer.zero_grad()
        train_step(step).backward()
        optimizer.step()
        schedule.step()


def interval(values):
    """Mean over seeds with its 95 % t interval."""
    from scipy import stats

    reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return {"value": float(values.mean()), "low": float(values.mean() - reach), "high": float(values.mean() + reach)}


def summary(loss):
    """By share: loss of the rare chain and of the common ones, on balanced data."""
    return {
        "rare": [interval(row) for row in loss[:, :, -1]],
        "common": [interval(row) for row in loss[:, :, :-1].mean(-1)],
    }


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 5) if isinstance(value, float) else value


def draw(record, script, output: Path):
    from detox.probing.figures import COLOURS, figure_grid, plain_axes, save_figure

    panels = [(n, k, v) for n, m in record["models"].items() for k, v in m["entanglement"].items()]
    figure, grid = figure_grid(1, len(panels), width=3.7, height=3.4, sharey=True)
    for axes, (name, kind, found) in zip(grid[0], panels, strict=True):
        for colour, group in zip(COLOURS, ("rare", "common"), strict=False):
            rows = found[group]
            value, low, high = (np.array([row[key] for row in rows]) for key in ("value", "low", "high"))
            axes.errorbar(script.shares, value, yerr=[value - low, high - value], color=colour, marker="o", markersize=4, linewidth=1.2,
                          capsize=2, label=f"{group} chain" + ("s" if group == "common" else ""))  # fmt: skip
            for seeds, share in zip(rows, script.shares, strict=True):
                axes.plot([share] * len(seeds["seeds"]), seeds["seeds"], ".", color=colour, markersize=3, alpha=0.35)
        axes.axhline(record["bounds"]["random"], color="grey", linestyle="--", linewidth=1, label="random directions")
        axes.axhline(record["bounds"]["welch"], color="grey", linestyle=":", linewidth=1, label="Welch's bound")
        axes.set_xscale("log")
        axes.set_xticks(script.shares, [f"{share:g}" for share in script.shares], fontsize=7, rotation=60)
        axes.minorticks_off()
        axes.set_title(f"{name}: {kind}", fontsize=9)
        axes.set_xlabel("share of the rare chain in the data", fontsize=8)
        plain_axes(axes)
    grid[0, 0].set_ylabel(
        "largest |cosine| with another feature\n(mean of the chain's features; 95 % over seeds)", fontsize=8
    )
    grid[0, 0].set_ylim(0.3, 1.03)
    grid[0, 0].legend(fontsize=7, frameon=False, loc="lower left")
    save_figure(figure, output / "entanglement")


if __name__ == "__main__":
    sys.exit(guarded(main))
