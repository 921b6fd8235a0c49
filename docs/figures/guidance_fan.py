"""Guidance pulls paths to one side: samples of one arm of the spiral, at four scales."""

from drawing import ARM, BLUE, GREY, SPIRAL, drawn, figure, plane, save

from edm_jax import guidance

SCALES = 0.0, 1.0, 2.0, 4.0


def main() -> None:
    """Draws paths and their ends, over the spiral."""
    (wanted, _), (any_, _) = plane(ARM), plane()
    made, axes = figure(1, len(SCALES), width=9.0, height=2.5)
    for ax, scale in zip(axes[0], SCALES):
        ends, states, _ = drawn(guidance.classifier_free(wanted, any_, scale), 300, sigma_max=10.0)
        ax.scatter(*SPIRAL.T, s=14, color=GREY, alpha=0.3)
        ax.plot(states[:, :30, 0], states[:, :30, 1], color=BLUE, lw=0.3, alpha=0.6)
        ax.scatter(*ends.T, s=3, color=BLUE)
        ax.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), xticks=[], yticks=[], title=f"scale {scale:g}")
        ax.set_aspect("equal")
    save(made, __file__)


if __name__ == "__main__":
    main()
