"""The model of a claim, loaded in the way that an evaluation asks for, with a number of threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.record.permit import Permit
    from regraft.runtime.interface import Model
    from regraft.runtime.text import TextEncoder


class LoadedOnce:
    """Loads when asked; close it when done.

    Args:
        package: open package; None for code of the user's own.
        own_code: `module:factory` of the user's; None for a package.
    """

    def __init__(
        self,
        package: Package | None,
        *,
        own_code: str | None = None,
        permit: Permit | None = None,
        runtime: str | None = None,
        path: str | None = None,
        threads: int | None = None,
    ) -> None:
        self._package = package
        self._own_code = own_code
        self._permit = permit
        self._runtime = runtime
        self._path = path
        self._threads = threads
        self._models: list[Model] = []

    def model(self) -> Model:
        """With its task head, as arrays in and out."""
        if self._own_code is not None:
            from regraft.runtime.torch_factory import model_from_factory

            found: Model = model_from_factory(self._own_code, threads=self._threads)
        else:
            from regraft.runtime import load

            found = load(
                self._opened, self._permit, runtime=self._runtime, path=self._path, threads=self._threads, head=True
            )
        self._models.append(found)
        return found

    def encoder(self) -> TextEncoder:
        """As text encoder: strings to vectors."""
        from regraft.runtime.text import load_text_encoder

        found = load_text_encoder(
            self._opened, self._permit, runtime=self._runtime, path=self._path, threads=self._threads
        )
        self._models.append(found.model)
        return found

    def classifier(self) -> TextEncoder:
        """With its task head behind its own tokenizer."""
        from regraft.runtime.text import TextEncoder

        plain = self.encoder()
        return TextEncoder(
            self.model(),
            plain.tokenizer,
            pooling=plain.pooling,
            max_tokens=plain.max_tokens,
            lowercase=plain.lowercase,
            special_tokens=plain.special_tokens,
        )

    @property
    def runtime(self) -> str | None:
        """The runtime that loaded it, once something is loaded."""
        return self._models[0].runtime if self._models else None

    @property
    def precision(self) -> str | None:
        """What it computes in, once something is loaded."""
        return self._models[0].effective_precision if self._models else None

    def close(self) -> None:
        """Free what was loaded."""
        for model in self._models:
            model.close()

    @property
    def _opened(self) -> Package:
        if self._package is None:
            raise Unsupported("code of your own has no tokenizer beside it; this evaluation needs a package")
        return self._package
