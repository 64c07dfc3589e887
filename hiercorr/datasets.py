"""Real data that come with hiercorr: raw counts and gene sets."""

from __future__ import annotations

from importlib import resources

import anndata as ad


def _read(name: str) -> ad.AnnData:
    with resources.as_file(resources.files("hiercorr") / "_data" / name) as path:
        return ad.read_h5ad(path)


def glioblastoma() -> ad.AnnData:
    """Glioblastoma slices with and without panobinostat: 5,000 cells x 300 genes, 5 patients x 2 conditions.

    Ten samples of 500 cells; the two samples of one patient are paired. ``obs``: sample_id, patient_id, condition, age,
    gender, location, treatment, total_counts (the sum over these 300 genes; the full depth is not in the source).

    Returns
    -------
    AnnData
        Raw UMI counts in ``X`` (CSR).

    References
    ----------
    Zhao et al. 2021, Genome Medicine 13:82, GEO GSE148842; subset distributed by the Bioconductor package lemur (MIT).

    Examples
    --------
    >>> import hiercorr as hc
    >>> hc.datasets.glioblastoma().shape
    (5000, 300)
    """
    return _read("glioblastoma.h5ad")


def kang_pbmc() -> ad.AnnData:
    """Blood cells of 2 lupus donors with and without interferon beta: 1,556 cells x 1,267 genes, 5 cell types.

    Four samples (donor x condition). ``obs``: cell_type, sample_id, condition, donor, total_counts.

    Returns
    -------
    AnnData
        Raw UMI counts in ``X`` (CSR).

    References
    ----------
    Kang et al. 2018, Nature Biotechnology 36:89, GEO GSE96583; subset distributed by the Bioconductor package muscat.

    Examples
    --------
    >>> import hiercorr as hc
    >>> hc.datasets.kang_pbmc().obs["sample_id"].nunique()
    4
    """
    return _read("kang_pbmc.h5ad")


def hallmark() -> dict[str, list[str]]:
    """MSigDB's Hallmark gene sets, version 7.0 (human gene symbols).

    Returns
    -------
    dict
        Name of the set -> gene symbols.

    References
    ----------
    Liberzon et al. 2015, Cell Systems 1:417. CC BY 4.0.

    Examples
    --------
    >>> import hiercorr as hc
    >>> len(hc.datasets.hallmark())
    50
    """
    from hiercorr.enrichment import read_gmt

    with resources.as_file(resources.files("hiercorr") / "_data" / "hallmark.v7.0.symbols.gmt") as path:
        return read_gmt(path)
