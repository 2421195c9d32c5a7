"""The recipes of `data_pipelines.recipes.mixing`, `mix_and_separate` and `unpaired`, within a step."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from data_pipelines.prepared.corpus import Corpus
from data_pipelines.recipes.mix_and_separate import MixAndSeparate
from data_pipelines.recipes.mixing import SILENCE, Augmentation, RandomSplit, Remix
from data_pipelines.recipes.unpaired import PairedExcerpt, SoloExcerpt, UnpairedMixture
from data_pipelines.schema import MIXTURE, QUERY, SLOTS, SOURCES, TARGET
from qsep_jax.on_device.drawing import Drawing, Example, begin
from qsep_jax.on_device.memory import DoesNotFit, Index


class DrawnRandomSplit(Drawing):
    """`RandomSplit`. An excerpt for each class, and one more to ask with."""

    recipe: RandomSplit

    redraws = True

    @property
    def classes(self) -> int:
        return self.recipe.classes or self.stems

    @property
    def reads(self) -> int:
        return self.classes + bool(self.recipe.other_query)

    def check(self, corpus: Corpus) -> None:
        self.recipe.check(corpus)
        alone = [stem for stem in corpus.stems if len(corpus.tracks(stem)) < 2]
        if self.recipe.other_query and alone:
            raise ValueError(f"{corpus.folder} has only one {corpus.split} track with '{alone[0]}'")

    def places(self, key: Array, attempts: Array, index: Index) -> tuple[Array, Any]:
        key = self._with_a_target(jax.random.fold_in(key, attempts[0]))
        chosen, is_target, present = self._sides(key)
        keys = jax.random.split(jax.random.fold_in(key, 1), (self.reads, 3))
        track, start = jax.vmap(self.anywhere_of, (0, 0, None))(keys[: self.classes, 0], chosen, index)
        swap, scale = jax.vmap(lambda key: augmented(self.recipe.augmentation, key))(keys[:, 1])
        scale *= jax.vmap(lambda key: between(key, self.recipe.gain))(keys[:, 2])
        places = jnp.stack([chosen, track, start], -1)
        elsewhere = jnp.zeros((), bool)
        if self.recipe.other_query:
            other_key, chance_key = jax.random.split(keys[-1, 0])
            elsewhere = jax.random.uniform(chance_key) < self.recipe.other_query
            places = jnp.concatenate([places, self._other(other_key, chosen[0], track[0], index)[None]])
        return places, (is_target & present, present, swap, scale, elsewhere)

    def example(self, drawn: Any, audio: Array, index: Index) -> tuple[Example, Array]:
        is_target, present, swap, scale, elsewhere = drawn
        audio = sounding(audio, swap, scale)
        sources = audio[: self.classes]
        example = {
            MIXTURE: jnp.where(present[:, None, None], sources, 0.0).sum(0),
            TARGET: jnp.where(is_target[:, None, None], sources, 0.0).sum(0),
        }
        if self.recipe.other_query:
            example[QUERY] = jnp.where(elsewhere, audio[-1], example[TARGET])
        silent = jnp.stack([jnp.sqrt(jnp.square(each).mean()) < SILENCE for each in example.values()]).any()
        return example, jnp.broadcast_to(silent, self.reads)

    def _sides(self, key: Array) -> tuple[Array, Array, Array]:
        """Which classes take part `[n]`, whether each is on the side of the target, and whether it is there."""
        class_key, side_key, presence_key = jax.random.split(key, 3)
        chosen = jax.random.permutation(class_key, self.stems)[: self.classes]
        sides = jax.random.uniform(side_key, (self.classes,)) < 0.5
        is_target = jnp.arange(self.classes) < self.recipe.targets if self.recipe.targets else sides
        return chosen, is_target, jax.random.uniform(presence_key, (self.classes,)) < self.recipe.presence

    def _with_a_target(self, key: Array) -> Array:
        """A key whose draw has a target."""

        def without(key: Array) -> Array:
            _, is_target, present = self._sides(key)
            return ~(is_target & present).any()

        return lax.while_loop(without, lambda key: jax.random.split(key)[0], key)

    def _other(self, key: Array, stem: Array, track: Array, index: Index) -> Array:
        """A place of a stem in another track."""
        track_key, start_key = jax.random.split(key)
        number = jax.random.randint(track_key, (), 0, index.having[stem] - 1)
        own = jnp.argmax(index.tracks[stem] == track)
        other = index.tracks[stem, number + (number >= own)]
        return jnp.stack([stem, other, begin(start_key, index.length(stem, other), self.samples)])


class DrawnMixAndSeparate(Drawing):
    """`MixAndSeparate` without frames. Each slot is drawn again on its own."""

    recipe: MixAndSeparate

    redraws = True

    @property
    def reads(self) -> int:
        return self.recipe.slots

    def check(self, corpus: Corpus) -> None:
        if self.recipe.frames:
            raise DoesNotFit("shows frames, which are read and drawn on the host")
        self.recipe.check(corpus)

    def places(self, key: Array, attempts: Array, index: Index) -> tuple[Array, Any]:
        count_key, order_key, place_key = jax.random.split(key, 3)
        most = min(self.recipe.most, self.stems)
        count = jax.random.randint(count_key, (), self.recipe.fewest, most + 1)
        order = jax.random.permutation(order_key, self.stems)
        order = jnp.pad(order, (0, max(self.reads - self.stems, 0)))[: self.reads]
        keys = jax.vmap(jax.random.fold_in)(jax.random.split(place_key, self.reads), attempts)
        track, start = jax.vmap(self.anywhere_of, (0, 0, None))(keys, order, index)
        return jnp.stack([order, track, start], -1), jnp.where(jnp.arange(self.reads) < count, order, -1)

    def example(self, drawn: Any, audio: Array, index: Index) -> tuple[Example, Array]:
        held = drawn >= 0
        silent = audio.std((1, 2)) <= SILENCE
        if self.recipe.scaling == "range":
            low, high = (limit(audio, axis=(1, 2), keepdims=True) for limit in (jnp.min, jnp.max))
            audio = (audio - low) * (2.0 / jnp.maximum(high - low, SILENCE)) - 1.0
        return {SOURCES: jnp.where(held[:, None, None], audio, 0.0), SLOTS: drawn.astype(jnp.int32)}, held & silent


class DrawnExcerpts(Drawing):
    """`PairedExcerpt` and `UnpairedMixture`: all stems of a track at one place."""

    recipe: PairedExcerpt | UnpairedMixture

    @property
    def reads(self) -> int:
        return self.stems

    def places(self, key: Array, attempts: Array, index: Index) -> tuple[Array, Any]:
        place_key, gain_key = jax.random.split(key)
        track, start = self.anywhere(place_key, index, self.samples)
        places = jnp.stack([jnp.arange(self.stems), *(jnp.full(self.stems, each) for each in (track, start))], -1)
        if isinstance(self.recipe, PairedExcerpt):
            return places, None
        return places, between(gain_key, self.recipe.gain)

    def example(self, drawn: Any, audio: Array, index: Index) -> tuple[Example, Array]:
        mixture = audio.sum(0)
        if isinstance(self.recipe, PairedExcerpt):
            return {MIXTURE: mixture, SOURCES: audio}, self.none_again()
        return {MIXTURE: drawn * mixture}, self.none_again()


class DrawnSoloExcerpt(Drawing):
    """`SoloExcerpt`."""

    recipe: SoloExcerpt

    @property
    def reads(self) -> int:
        return 1

    def check(self, corpus: Corpus) -> None:
        self.recipe.check(corpus)

    def places(self, key: Array, attempts: Array, index: Index) -> tuple[Array, Any]:
        place_key, gain_key = jax.random.split(key)
        stem = jnp.zeros((), jnp.int32)
        track, start = self.anywhere_of(place_key, stem, index)
        return jnp.stack([stem, track, start])[None], between(gain_key, self.recipe.gain)

    def example(self, drawn: Any, audio: Array, index: Index) -> tuple[Example, Array]:
        return {TARGET: drawn * audio[0]}, self.none_again()


class DrawnRemix(Drawing):
    """`Remix`."""

    recipe: Remix

    @property
    def reads(self) -> int:
        return self.stems

    def places(self, key: Array, attempts: Array, index: Index) -> tuple[Array, Any]:
        song_key, deal_key, shift_key, sound_key = jax.random.split(key, 4)
        slack = round(self.recipe.shift * self.rate)
        keys = jax.random.split(song_key, self.recipe.songs)
        track, start = jax.vmap(lambda key: self.anywhere(key, index, self.samples + slack))(keys)
        dealt = jax.random.randint(deal_key, (self.stems,), 0, self.recipe.songs)
        shift = jax.random.randint(shift_key, (self.stems,), 0, slack + 1)
        keys = jax.random.split(sound_key, self.stems)
        sound = jax.vmap(lambda key: augmented(self.recipe.augmentation, key))(keys)
        return jnp.stack([jnp.arange(self.stems), track[dealt], start[dealt] + shift], -1), sound

    def example(self, drawn: Any, audio: Array, index: Index) -> tuple[Example, Array]:
        sources = sounding(audio, *drawn)
        return {MIXTURE: sources.sum(0), SOURCES: sources}, self.none_again()


def augmented(augmentation: Augmentation, key: Array) -> tuple[Array, Array]:
    """`Augmentation.draw`: whether to reverse the channels, and what to multiply by."""
    swap_key, sign_key, gain_key = jax.random.split(key, 3)
    swap = jax.random.uniform(swap_key) < augmentation.channel_swap
    sign = jnp.where(jax.random.uniform(sign_key) < augmentation.polarity, -1.0, 1.0)
    return swap, sign * 10.0 ** (between(gain_key, augmentation.gain_db) / 20.0)


def sounding(audio: Array, swap: Array, scale: Array) -> Array:
    """Excerpts `[n, T, C]` as `augmented` has them."""
    return jnp.where(swap[:, None, None], audio[..., ::-1], audio) * scale[:, None, None]


def between(key: Array, limits: tuple[float, float]) -> Array:
    low, high = limits
    return jax.random.uniform(key, (), minval=low, maxval=high)
