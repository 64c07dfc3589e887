"""Data sets shipped with the package: raw counts and gene sets."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import anndata as ad

from hiercorr.errors import InputError, one_of

_NAMES = ("glioblastoma", "ipsc_cycle", "kang_pbmc")


def _read(name: str) -> ad.AnnData:
    with resources.as_file(resources.files("hiercorr") / "_data" / name) as path:
        return ad.read_h5ad(path)


def path(name: str) -> Path:
    """Return the path of a data set shipped with the package, for the command line.

    Parameters
    ----------
    name : {"glioblastoma", "ipsc_cycle", "kang_pbmc"}

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If there is no such data set.

    Examples
    --------
    >>> import hiercorr as hc
    >>> hc.datasets.path("ipsc_cycle").name
    'ipsc_cycle.h5ad'
    """
    one_of("name", name, _NAMES)
    return Path(str(resources.files("hiercorr") / "_data" / f"{name}.h5ad"))


def glioblastoma() -> ad.AnnData:
    """Load glioblastoma slices with and without panobinostat: 5,000 cells x 300 genes.

    Five patients x 2 conditions, ten samples of 500 cells; the two samples of a patient are paired.
    ``obs``: sample_id, patient_id, condition, age, gender, location, treatment, total_counts (the
    sum over these 300 genes; the source does not contain the full sequencing depth).

    Returns
    -------
    AnnData
        Raw UMI counts in ``X`` (CSR).

    References
    ----------
    Zhao et al. 2021, Genome Medicine 13:82, GEO GSE148842; subset distributed by the Bioconductor
    package lemur (MIT).

    Examples
    --------
    >>> import hiercorr as hc
    >>> hc.datasets.glioblastoma().shape
    (5000, 300)
    """
    return _read("glioblastoma.h5ad")


def ipsc_cycle() -> ad.AnnData:
    """Load induced pluripotent stem cells at all stages of the cell cycle: 888 cells x 101 genes.

    Six donors crossed with 16 plates. ``obs``: donor, plate, depth (all human molecules of the
    cell, the full sequencing depth; median 127,000), genes_detected, cycle_angle (radians, from
    images of FUCCI reporters), gfp, rfp, dapi (log10 intensities, adjusted), size. ``var_names``
    are gene symbols and ``var["gene_id"]`` the Ensembl ids, which are the names in the source.
    Genes of the cell cycle; known partners of CDK1 are UBE2C, TOP2A, KPNA2 and AURKA.

    Returns
    -------
    AnnData
        Raw UMI counts in ``X`` (CSR).

    References
    ----------
    Hsiao et al. 2020, Genome Research 30:611, GEO GSE121265; the 101 genes are those distributed as
    sce_top101genes by the Bioconductor package peco.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.ipsc_cycle()
    >>> adata.shape, adata.var.loc["CDK1", "gene_id"]
    ((888, 101), 'ENSG00000170312')
    """
    return _read("ipsc_cycle.h5ad")


def kang_pbmc() -> ad.AnnData:
    """Load blood cells with and without interferon beta: 1,556 cells x 1,267 genes.

    Two lupus donors x 2 conditions, four samples, 5 cell types. ``obs``: cell_type, sample_id,
    condition, donor, total_counts.

    Returns
    -------
    AnnData
        Raw UMI counts in ``X`` (CSR).

    References
    ----------
    Kang et al. 2018, Nature Biotechnology 36:89, GEO GSE96583; subset distributed by the
    Bioconductor package muscat.

    Examples
    --------
    >>> import hiercorr as hc
    >>> hc.datasets.kang_pbmc().obs["sample_id"].nunique()
    4
    """
    return _read("kang_pbmc.h5ad")


def hallmark() -> dict[str, list[str]]:
    """Load the MSigDB Hallmark gene sets, version 7.0 (human gene symbols).

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
    with resources.as_file(
        resources.files("hiercorr") / "_data" / "hallmark.v7.0.symbols.gmt"
    ) as path:
        return read_gmt(path)


def read_gmt(path: str | Path) -> dict[str, list[str]]:
    r"""Read gene sets from a GMT file.

    Parameters
    ----------
    path : str or Path
        File with one set per line: name, description and genes, separated by tabs.

    Returns
    -------
    dict
        Name -> genes.

    Raises
    ------
    InputError
        If a line has no genes or repeats a name; the message gives the number of the line.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import hiercorr as hc
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "sets.gmt"
    ...     path.write_text("ferritin\tan example\tFTL\tFTH1\n")
    ...     hc.datasets.read_gmt(path)
    29
    {'ferritin': ['FTL', 'FTH1']}
    """
    if not isinstance(path, str | Path):
        raise InputError(f"path must be the name of a GMT file, not {path!r}")
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"no such file: {str(path)!r}")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name!r} is not a text file ({error}); unpack it first") from error
    out: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *rest = line.split("\t")
        genes = [g.strip() for g in rest[1:] if g.strip()]
        if not name.strip() or not genes:
            raise InputError(
                f"line {number} of {path.name!r} is not "
                f"'name<TAB>description<TAB>gene<TAB>...': {line[:60]!r}"
            )
        if name in out:
            raise InputError(f"line {number} of {path.name!r} repeats the set {name!r}")
        out[name] = genes
    if not out:
        raise InputError(f"{path.name!r} contains no gene set")
    return out
