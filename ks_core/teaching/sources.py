"""Where a claim comes from: what lessons, the glossary and the pages cite, by a short name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A work that is cited: how it is named, and where it can be read (empty: not published at an address)."""

    name: str
    address: str = ""

    @property
    def markdown(self) -> str:
        """The name, as a link where there is an address."""
        return f"[{self.name}]({self.address})" if self.address else self.name


SOURCES = {
    "paper": Source("Yuan et al., KS-Lottery, NAACL 2025", "https://arxiv.org/abs/2402.02801"),
    "replication": Source("an independent replication of KS-Lottery on LLaMA-7B, September 2026, not reviewed"),
    "exact": Source(
        "Gnedenko and Korolyuk 1951; computed as in SciPy's ks_2samp",
        "https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.ks_2samp.html",
    ),
    "smirnov": Source("Smirnov 1948, Annals of Mathematical Statistics 19", "https://doi.org/10.1214/aoms/1177730256"),
    "hodges": Source("Hodges 1958, Arkiv för Matematik 3", "https://doi.org/10.1007/BF02589501"),
    "permutation": Source("Good 2005, Permutation, Parametric and Bootstrap Tests of Hypotheses", "https://doi.org/10.1007/b138696"),
    "bh": Source("Benjamini and Hochberg 1995, JRSS B 57", "https://doi.org/10.1111/j.2517-6161.1995.tb02031.x"),
    "cvm": Source("Anderson 1962, On the Distribution of the Two-Sample Cramér-von Mises Criterion", "https://doi.org/10.1214/aoms/1177704477"),
    "ad": Source("Scholz and Stephens 1987, K-Sample Anderson-Darling Tests", "https://doi.org/10.1080/01621459.1987.10478517"),
    "energy": Source("Székely and Rizzo 2013, Energy statistics", "https://doi.org/10.1016/j.jspi.2013.03.018"),
    "wasserstein": Source("SciPy's wasserstein_distance", "https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.wasserstein_distance.html"),
    "wilcoxon": Source("Wilcoxon 1945, Individual Comparisons by Ranking Methods", "https://doi.org/10.2307/3001968"),
    "adam": Source("Kingma and Ba 2015", "https://arxiv.org/abs/1412.6980"),
    "bleu": Source("Post 2018, A Call for Clarity in Reporting BLEU Scores", "https://aclanthology.org/W18-6319"),
    "chrf": Source("Popović 2015, chrF", "https://aclanthology.org/W15-3049"),
    "bootstrap": Source("Koehn 2004, Statistical Significance Tests for MT Evaluation", "https://aclanthology.org/W04-3250"),
    "umap": Source("McInnes, Healy and Melville 2018", "https://arxiv.org/abs/1802.03426"),
    "lora": Source("Hu et al. 2021, LoRA", "https://arxiv.org/abs/2106.09685"),
    "prefix": Source("Li and Liang 2021, Prefix-Tuning", "https://arxiv.org/abs/2101.00190"),
    "here": Source("computed here, on this page"),
    "program": Source("measured with this program, on its demo"),
}  # fmt: skip


def cite(*names: str) -> str:
    """A line that names sources, as Markdown.

    >>> cite("here")
    'Source: computed here, on this page.'
    """
    return f"Source{'s' if len(names) > 1 else ''}: {'; '.join(SOURCES[name].markdown for name in names)}."
