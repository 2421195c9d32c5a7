"""The recipes of `data_pipelines.recipes.mixing`, `mix_and_separate` and `unpaired` inside the step."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from data_pipelines.prepared.corpus import Corpus
from data_pipelines.recipes.mix_and_separate import MixAndSeparate
from data_pipelines.recipes.mixing import SILENCE, Augmentation, RandomSplit, Remix
from data_pipelines.recipes.unpaired import PairedExcerpt, SoloExcerpt, UnpairedMixture
from data_pipelines.schema import MIXTURE, QUERY, SLOTS, SOURCES, TARGET
from qsep_jax.on_device.memory import DoesNotFit, Index, RowLayout
from qsep_jax.on_device.recipe import DeviceRecipe, Example, random_start, stem_sources


class DrawnRandomSplit(DeviceRecipe):
    """`RandomSplit` on devices: an excerpt for each class, and with `other_query` one for the query."""

    recipe: RandomSplit

    redraws = True

    @property
    def classes(self) -> int:
        """Number of classes in a mixture."""
        return self.recipe.classes or self.stems

    @property
    def excerpts(self) -> int:
        return self.classes + bool(self.recipe.other_query)

    def check(self, corpus: Corpus) -> None:
        self.recipe.check(corpus)
        single = [stem for stem in corpus.stems if len(corpus.tracks(stem)) < 2]
        if self.recipe.other_query and single:
            raise ValueError(f"{corpus.folder} has only one {corpus.split} track with '{single[0]}'")

    def choose(self, key: Array, attempts: Array, index: Index) -> tuple[Array, Any]:
        key = self._key_with_target(jax.random.fold_in(key, attempts[0]))
        chosen, is_target, present = self._sides(key)
        keys = jax.random.split(jax.random.fold_in(key, 1), (self.excerpts, 3))
        track, start = jax.vmap(self.random_excerpt_of, (0, 0, None))(keys[: self.classes, 0], chosen, index)
        swap, scale = jax.vmap(lambda key: draw_augmentation(self.recipe.augmentation, key))(keys[:, 1])
        scale *= jax.vmap(lambda key: uniform(key, self.recipe.gain))(keys[:, 2])
        positions = jnp.stack([chosen, track, start], -1)
        use_other = jnp.zeros((), bool)
        if self.recipe.other_query:
            other_key, chance_key = jax.random.split(keys[-1, 0])
            use_other = jax.random.uniform(chance_key) < self.recipe.other_query
            positions = jnp.concatenate([positions, self._other(other_key, chosen[0], track[0], index)[None]])
        return positions, (is_target & present, present, swap, scale, use_other)

    def example(self, choices: Any, audio: Array, index: Index) -> tuple[Example, Array]:
        is_target, present, swap, scale, use_other = choices
        audio = apply_augmentation(audio, swap, scale)
        sources = audio[: self.classes]
        example = {
            MIXTURE: jnp.where(present[:, None, None], sources, 0.0).sum(0),
            TARGET: jnp.where(is_target[:, None, None], sources, 0.0).sum(0),
        }
        if self.recipe.other_query:
            example[QUERY] = jnp.where(use_other, audio[-1], example[TARGET])
        silent = jnp.stack([jnp.sqrt(jnp.square(signal).mean()) < SILENCE for signal in example.values()]).any()
        return example, jnp.broadcast_to(silent, self.excerpts)

    def _sides(self, key: Array) -> tuple[Array, Array, Array]:
        """Draw the classes of a mixture, whether each belongs to the target, and whether each is present, all `[n]`."""
        class_key, side_key, presence_key = jax.random.split(key, 3)
        chosen = jax.random.permutation(class_key, self.stems)[: self.classes]
        sides = jax.random.uniform(side_key, (self.classes,)) < 0.5
        is_target = jnp.arange(self.classes) < self.recipe.targets if self.recipe.targets else sides
        return chosen, is_target, jax.random.uniform(presence_key, (self.classes,)) < self.recipe.presence

    def _key_with_target(self, key: Array) -> Array:
        """Derive a key whose random split has a target."""

        def without_target(key: Array) -> Array:
            _, is_target, present = self._sides(key)
            return ~(is_target & present).any()

        return lax.while_loop(without_target, lambda key: jax.random.split(key)[0], key)

    def _other(self, key: Array, stem: Array, track: Array, index: Index) -> Array:
        """Draw the position of an excerpt of a stem in another track."""
        track_key, start_key = jax.random.split(key)
        number = jax.random.randint(track_key, (), 0, index.track_counts[stem] - 1)
        excluded = jnp.argmax(index.tracks[stem] == track)
        other = index.tracks[stem, number + (number >= excluded)]
        return jnp.stack([stem, other, random_start(start_key, index.length(stem, other), self.samples)])


class DrawnMixAndSeparate(DeviceRecipe):
    """`MixAndSeparate` on devices, without video frames; each silent slot is drawn again separately."""

    recipe: MixAndSeparate

    redraws = True

    @property
    def excerpts(self) -> int:
        return self.recipe.slots

    def check(self, corpus: Corpus) -> None:
        if self.recipe.frames:
            raise DoesNotFit("has video frames, which are only read on the host")
        self.recipe.check(corpus)

    def choose(self, key: Array, attempts: Array, index: Index) -> tuple[Array, Any]:
        count_key, order_key, excerpt_key = jax.random.split(key, 3)
        max_count = min(self.recipe.most, self.stems)
        count = jax.random.randint(count_key, (), self.recipe.fewest, max_count + 1)
        order = jax.random.permutation(order_key, self.stems)
        order = jnp.pad(order, (0, max(self.excerpts - self.stems, 0)))[: self.excerpts]
        keys = jax.vmap(jax.random.fold_in)(jax.random.split(excerpt_key, self.excerpts), attempts)
        track, start = jax.vmap(self.random_excerpt_of, (0, 0, None))(keys, order, index)
        return jnp.stack([order, track, start], -1), jnp.where(jnp.arange(self.excerpts) < count, order, -1)

    def example(self, choices: Any, audio: Array, index: Index) -> tuple[Example, Array]:
        occupied = choices >= 0
        silent = audio.std((1, 2)) <= SILENCE
        if self.recipe.scaling == "range":
            low, high = (limit(audio, axis=(1, 2), keepdims=True) for limit in (jnp.min, jnp.max))
            audio = (audio - low) * (2.0 / jnp.maximum(high - low, SILENCE)) - 1.0
        return {
            SOURCES: jnp.where(occupied[:, None, None], audio, 0.0),
            SLOTS: choices.astype(jnp.int32),
        }, occupied & silent


class DrawnExcerpts(DeviceRecipe):
    """`PairedExcerpt` and `UnpairedMixture` on devices: all stems of a track at the same position."""

    recipe: PairedExcerpt | UnpairedMixture

    @property
    def excerpts(self) -> int:
        return self.stems

    def check(self, corpus: Corpus) -> None:
        if isinstance(self.recipe, PairedExcerpt) and self.recipe.draw != "tracks":
            raise DoesNotFit(f"has the recipe's draw = '{self.recipe.draw}', which only the host does")

    def choose(self, key: Array, attempts: Array, index: Index) -> tuple[Array, Any]:
        excerpt_key, gain_key = jax.random.split(key)
        track, start = self.random_excerpt(excerpt_key, index, self.samples)
        positions = jnp.stack([jnp.arange(self.stems), *(jnp.full(self.stems, x) for x in (track, start))], -1)
        if isinstance(self.recipe, PairedExcerpt):
            return positions, None
        return positions, uniform(gain_key, self.recipe.gain)

    def example(self, choices: Any, audio: Array, index: Index) -> tuple[Example, Array]:
        mixture = audio.sum(0)
        if isinstance(self.recipe, PairedExcerpt):
            return {MIXTURE: mixture, SOURCES: audio}, self.no_redraw()
        return {MIXTURE: choices * mixture}, self.no_redraw()


class DrawnSoloExcerpt(DeviceRecipe):
    """`SoloExcerpt` on devices."""

    recipe: SoloExcerpt

    @property
    def excerpts(self) -> int:
        return 1

    def check(self, corpus: Corpus) -> None:
        self.recipe.check(corpus)

    def index(self, corpora: Sequence[Corpus], layout: RowLayout) -> Index:
        for corpus in corpora:
            self.check(corpus)
        return layout.index(corpora, stem_sources(corpora), [self.recipe.tracks(corpus) for corpus in corpora])

    def choose(self, key: Array, attempts: Array, index: Index) -> tuple[Array, Any]:
        excerpt_key, gain_key = jax.random.split(key)
        # The index holds exactly the tracks from which the recipe draws; one without the stem is read as zeros.
        track, start = self.random_excerpt(excerpt_key, index, self.samples)
        return jnp.stack([jnp.zeros_like(track), track, start])[None], uniform(gain_key, self.recipe.gain)

    def example(self, choices: Any, audio: Array, index: Index) -> tuple[Example, Array]:
        return {TARGET: choices * audio[0]}, self.no_redraw()


class DrawnRemix(DeviceRecipe):
    """`Remix` on devices."""

    recipe: Remix

    @property
    def excerpts(self) -> int:
        return self.stems

    def choose(self, key: Array, attempts: Array, index: Index) -> tuple[Array, Any]:
        song_key, assignment_key, shift_key, augmentation_key = jax.random.split(key, 4)
        slack = round(self.recipe.shift * self.sample_rate)
        keys = jax.random.split(song_key, self.recipe.songs)
        track, start = jax.vmap(lambda key: self.random_excerpt(key, index, self.samples + slack))(keys)
        song = jax.random.randint(assignment_key, (self.stems,), 0, self.recipe.songs)
        shift = jax.random.randint(shift_key, (self.stems,), 0, slack + 1)
        keys = jax.random.split(augmentation_key, self.stems)
        augmentations = jax.vmap(lambda key: draw_augmentation(self.recipe.augmentation, key))(keys)
        return jnp.stack([jnp.arange(self.stems), track[song], start[song] + shift], -1), augmentations

    def example(self, choices: Any, audio: Array, index: Index) -> tuple[Example, Array]:
        sources = apply_augmentation(audio, *choices)
        return {MIXTURE: sources.sum(0), SOURCES: sources}, self.no_redraw()


def draw_augmentation(augmentation: Augmentation, key: Array) -> tuple[Array, Array]:
    """Draw whether to reverse the channels, and the gain, as `Augmentation.draw`."""
    swap_key, sign_key, gain_key = jax.random.split(key, 3)
    swap = jax.random.uniform(swap_key) < augmentation.channel_swap
    sign = jnp.where(jax.random.uniform(sign_key) < augmentation.polarity, -1.0, 1.0)
    return swap, sign * 10.0 ** (uniform(gain_key, augmentation.gain_db) / 20.0)


def apply_augmentation(audio: Array, swap: Array, scale: Array) -> Array:
    """Apply drawn augmentations to excerpts `[n, T, C]`."""
    return jnp.where(swap[:, None, None], audio[..., ::-1], audio) * scale[:, None, None]


def uniform(key: Array, limits: tuple[float, float]) -> Array:
    """Draw a number between two limits."""
    low, high = limits
    return jax.random.uniform(key, (), minval=low, maxval=high)
