"""A diffusion transformer of diffusers as one module that learns by its own loss, and makes pictures of a class."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTTransformer2DModel

from regard._files import read_json, write_json
from regard.errors import ConfigError, DataError
from regard.looking.looked import Looked
from regard.looking.pictures import place_labels
from regard.models.watch import watch

CONFIG = "config.json"
Progress = Callable[[int, torch.Tensor], None]


class Denoiser(torch.nn.Module):
    """Learns to take noise off pictures of known classes, and makes pictures by doing so from noise alone.

    The transformer predicts noise e, or v = a e - s x, from a x + s e, where a and s depend on the step and x is a
    picture from -1 to 1, or what an autoencoder makes of it. A tenth of the labels is hidden in training, so that the
    same model also knows pictures of no class in particular: with a guidance of g, what is predicted for the class
    is `none + g (class - none)`.

    Args:
        transformer: of diffusers.
        scheduler: how much noise each step has.
        labels: the names of the classes.
        guidance: g; 1 is none.
        steps: from noise to a picture.
        autoencoder: of diffusers, for a transformer that works on what it makes of pictures.

    Source: Peebles and Xie 2022, arXiv 2212.09748; Ho and Salimans 2022, arXiv 2207.12598; Song et al. 2020, arXiv
        2010.02502.
    """

    HIDDEN = 0.1

    def __init__(
        self,
        transformer: Any,
        scheduler: Any,
        labels: list[str],
        guidance: float = 3.0,
        steps: int = 40,
        autoencoder: Any = None,
    ) -> None:
        super().__init__()
        self.transformer, self.scheduler, self.labels = transformer, scheduler, labels
        self.guidance, self.steps = guidance, steps
        # In a list, for it is not trained: a module here would be.
        self._autoencoder = [] if autoencoder is None else [autoencoder.requires_grad_(False).eval()]
        for module in transformer.modules():
            if isinstance(module, diffusers.models.embeddings.LabelEmbedding):
                module.dropout_prob = 0.0  # which would hide labels from some layers, and not from others

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.transformer.device

    @property
    def autoencoder(self) -> Any:
        """What makes pictures of what the transformer works on."""
        return self._autoencoder[0].to(self.device) if self._autoencoder else None

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """The mean squared error of what is predicted, of pictures `(B, 3, height, width)` at random steps.

        In evaluation a picture's step and noise are the same each time, whatever is beside it, so that losses can be
        compared. Without labels, they are pictures of no class in particular.
        """
        clean = self.encode(pixel_values)
        noise, steps = self._draw(clean) if self.training else self._drawn_for(pixel_values, clean)
        if labels is None:
            labels = torch.full_like(steps, len(self.labels))
        if self.training:
            hidden = torch.rand(len(labels), device=labels.device) < self.HIDDEN
            labels = torch.where(hidden, len(self.labels), labels)
        predicted = self._predict(self.scheduler.add_noise(clean, noise, steps), steps, labels)
        by_velocity = self.scheduler.config.prediction_type == "v_prediction"
        wanted = self.scheduler.get_velocity(clean, noise, steps) if by_velocity else noise
        loss = torch.nn.functional.mse_loss(predicted.float(), wanted.float())
        return {"loss": loss, "logits": predicted}

    def _draw(self, clean: torch.Tensor, rng: torch.Generator | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise for each picture, and how far it is on its way to it."""
        device = clean.device if rng is None else rng.device
        noise = torch.randn(clean.shape, generator=rng, device=device)
        return noise, torch.randint(
            self.scheduler.config.num_train_timesteps, (len(clean),), generator=rng, device=device
        )

    def _drawn_for(self, pictures: torch.Tensor, clean: torch.Tensor) -> list[torch.Tensor]:
        """What is drawn by the picture itself."""
        seeds = [zlib.crc32(picture.float().numpy(force=True).tobytes()) for picture in pictures]
        drawn = [
            self._draw(each[None], torch.Generator().manual_seed(seed)) for each, seed in zip(clean, seeds, strict=True)
        ]
        return [torch.cat(each).to(clean.device) for each in zip(*drawn, strict=True)]

    def _predict(self, noisy: torch.Tensor, steps: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        found = self.transformer(noisy, timestep=steps, class_labels=labels).sample
        return found[:, : noisy.shape[1]]  # without the variances that some checkpoints predict too

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Make what the transformer works on of pictures from -1 to 1."""
        if self.autoencoder is not None:
            return self.autoencoder.encode(pixels).latent_dist.mean * self.autoencoder.config.scaling_factor
        channels = self.transformer.config.in_channels
        return pixels.mean(1, keepdim=True) if channels == 1 else pixels

    def decode(self, made: torch.Tensor) -> torch.Tensor:
        """Make pictures of three channels from 0 to 1 of what the transformer works on."""
        if self.autoencoder is not None:
            made = self.autoencoder.decode(made / self.autoencoder.config.scaling_factor).sample
        return (made.expand(-1, 3, -1, -1) / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def generate(self, labels: torch.Tensor, seeds: list[int], progress: Progress | None = None) -> torch.Tensor:
        """Make a picture `(3, height, width)` from 0 to 1 of each label.

        Args:
            labels: numbers of classes, `(B,)`.
            seeds: of each picture's noise.
            progress: called before each step with its number and the noisy pictures.
        """
        size, channels = self.transformer.config.sample_size, self.transformer.config.in_channels
        noise = [torch.randn(channels, size, size, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        noisy = torch.stack(noise).to(self.device)
        both = torch.cat([labels, torch.full_like(labels, len(self.labels))]).to(self.device)
        self.scheduler.set_timesteps(self.steps, device=self.device)
        for number, step in enumerate(self.scheduler.timesteps):
            if progress is not None:
                progress(number, noisy)
            for_class, none = self._predict(noisy.repeat(2, 1, 1, 1), step.expand(len(both)), both).chunk(2)
            guided = none + self.guidance * (for_class - none)
            noisy = self.scheduler.step(guided, step, noisy, use_clipped_model_output=True).prev_sample
        return self.decode(noisy)

    def look(self, given: str) -> Looked:
        """Make a picture of a class: what its patches attend to halfway from noise.

        Raises:
            DataError: there is no such class.
        """
        number, layers = self.number(given, "look"), self.transformer.config.num_layers
        first = self.steps // 2 * layers
        with watch(self, layers=range(first, first + layers)) as seen:
            made = self.generate(torch.tensor([number]), [0])
        side = self.transformer.config.sample_size // self.transformer.config.patch_size
        picture = made[0].permute(1, 2, 0).cpu().numpy()
        return Looked("image", place_labels(side, side, 0), seen, f"made: {given}", picture=picture, grid=(side, side))

    def number(self, name: object, where: str) -> int:
        """Return the number of a class, or raise DataError if there is none of that name."""
        if str(name) not in self.labels:
            known = ", ".join(f"'{label}'" for label in self.labels[:5])
            more = f" and {len(self.labels) - 5} more" if len(self.labels) > 5 else ""
            raise DataError(f"{where}: need a class, one of {known}{more}; got '{name}'; name one of them.")
        return self.labels.index(str(name))

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Write everything into a folder, each part as diffusers writes it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.transformer.save_pretrained(folder / "transformer")
        self.scheduler.save_pretrained(folder / "scheduler")
        if self.autoencoder is not None:
            self.autoencoder.save_pretrained(folder / "vae")
        write_json(folder / CONFIG, {"labels": self.labels, "guidance": self.guidance, "steps": self.steps})

    @classmethod
    def from_pretrained(cls, source: str, labels: list[str], **options: Any) -> tuple[Denoiser, list[str]]:
        """Load a folder that this class wrote, or a DiT pipeline of diffusers; also return the new parameters' names.

        Args:
            source: the folder, or a name on the hub.
            labels: the classes to make; what the checkpoint knows of other classes is left behind.
            options: `guidance` and `steps`.

        Raises:
            ConfigError: there is none.
        """
        folder = Path(source)
        try:
            scheduler = DDIMScheduler.from_pretrained(source, subfolder="scheduler")
            transformer, fresh = _load_transformer(source, labels, folder)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"model: need the folder of a DiT pipeline of diffusers or its name on the hub; got '{source}' "
                f"({str(error).splitlines()[0][:100]}); correct it, or set options.from_scratch."
            ) from None
        autoencoder: Any = None
        if not folder.is_dir() or (folder / "vae").is_dir():
            autoencoder = AutoencoderKL.from_pretrained(source, subfolder="vae")
        return cls(transformer, scheduler, labels, autoencoder=autoencoder, **options), fresh

    @classmethod
    def from_scratch(cls, scratch: dict[str, int], labels: list[str], dropout: float, **options: Any) -> Denoiser:
        """Begin at random, so that each layer at first passes on what it is given."""
        transformer: Any = DiTTransformer2DModel(
            num_attention_heads=scratch["heads"],
            attention_head_dim=scratch["width"] // scratch["heads"],
            in_channels=scratch["channels"],
            out_channels=scratch["channels"],
            num_layers=scratch["layers"],
            dropout=dropout,
            sample_size=scratch["image"],
            patch_size=scratch["patch"],
            num_embeds_ada_norm=len(labels),
        )
        for layer in (*(block.norm1.linear for block in transformer.transformer_blocks), transformer.proj_out_2):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
        scheduler = DDIMScheduler(
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
            clip_sample=True,
            timestep_spacing="trailing",
            rescale_betas_zero_snr=True,
        )
        return cls(transformer, scheduler, labels, **options)


def _load_transformer(source: str, labels: list[str], folder: Path) -> tuple[Any, list[str]]:
    """Load the transformer; where it knows other classes, theirs are new."""
    known = read_json(folder / CONFIG).get("labels") if (folder / CONFIG).is_file() else None
    config = DiTTransformer2DModel.load_config(source, subfolder="transformer")
    options = {"num_embeds_ada_norm": len(labels), "ignore_mismatched_sizes": True, "low_cpu_mem_usage": False}
    model: Any = DiTTransformer2DModel.from_pretrained(
        source, subfolder="transformer", **({} if config["num_embeds_ada_norm"] == len(labels) else options)
    )
    tables = [name for name, _ in model.named_parameters() if "embedding_table" in name]
    if known == labels:
        return model, []
    for name in tables:
        torch.nn.init.normal_(model.get_parameter(name), std=0.02)
    return model, [f"transformer.{name}" for name in tables]
