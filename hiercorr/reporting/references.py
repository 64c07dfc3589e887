"""Sources of the methods: the short form that the Methods paragraph uses and the full reference."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hiercorr._version import __version__

REFERENCES: dict[str, tuple[str, str]] = {
    "cscore": (
        "Su et al. 2023",
        "Cell-type-specific co-expression inference from single cell RNA-sequencing data, "
        "Nature Communications 14:4846",
    ),
    "npmle": (
        "Kiefer & Wolfowitz 1956",
        "Consistency of the maximum likelihood estimator in the presence of infinitely many "
        "incidental parameters, Annals of Mathematical Statistics 27:887",
    ),
    "shrinkage": (
        "Stephens 2017",
        "False discovery rates: a new deal, Biostatistics 18:275",
    ),
    "reml": (
        "Harville 1977",
        "Maximum likelihood approaches to variance component estimation and to related problems, "
        "Journal of the American Statistical Association 72:320",
    ),
    "jackknife": ("Miller 1974", "The jackknife - a review, Biometrika 61:1"),
    "bootstrap": (
        "Efron 1979",
        "Bootstrap methods: another look at the jackknife, Annals of Statistics 7:1",
    ),
    "satterthwaite": (
        "Satterthwaite 1946",
        "An approximate distribution of estimates of variance components, "
        "Biometrics Bulletin 2:110",
    ),
    "bell_mccaffrey": (
        "Bell & McCaffrey 2002",
        "Bias reduction in standard errors for linear regression with multi-stage samples, "
        "Survey Methodology 28:169",
    ),
    "holm": (
        "Holm 1979",
        "A simple sequentially rejective multiple test procedure, "
        "Scandinavian Journal of Statistics 6:65",
    ),
    "pustejovsky_tipton": (
        "Pustejovsky & Tipton 2018",
        "Small-sample methods for cluster-robust variance estimation and hypothesis testing in "
        "fixed effects models, Journal of Business & Economic Statistics 36:672",
    ),
    "mackinnon_white": (
        "MacKinnon & White 1985",
        "Some heteroskedasticity-consistent covariance matrix estimators with improved finite "
        "sample properties, Journal of Econometrics 29:305",
    ),
    "welch": (
        "Welch 1947",
        "The generalization of 'Student's' problem when several different population variances "
        "are involved, Biometrika 34:28",
    ),
    "janssen": (
        "Janssen 1997",
        "Studentized permutation tests for non-i.i.d. hypotheses and the generalized "
        "Behrens-Fisher problem, Statistics & Probability Letters 36:9",
    ),
    "freedman_lane": (
        "Freedman & Lane 1983",
        "A nonstochastic interpretation of reported significance levels, "
        "Journal of Business & Economic Statistics 1:292",
    ),
    "phipson_smyth": (
        "Phipson & Smyth 2010",
        "Permutation P-values should never be zero: calculating exact P-values when permutations "
        "are randomly drawn, Statistical Applications in Genetics and Molecular Biology 9:39",
    ),
    "paule_mandel": (
        "Paule & Mandel 1982",
        "Consensus values and weighting factors, Journal of Research of the National Bureau of "
        "Standards 87:377",
    ),
    "i2": (
        "Higgins & Thompson 2002",
        "Quantifying heterogeneity in a meta-analysis, Statistics in Medicine 21:1539",
    ),
    "prediction": (
        "Nagashima et al. 2019",
        "Prediction intervals for random-effects meta-analysis: a confidence distribution "
        "approach, Statistical Methods in Medical Research 28:1689",
    ),
    "bh": (
        "Benjamini & Hochberg 1995",
        "Controlling the false discovery rate: a practical and powerful approach to multiple "
        "testing, Journal of the Royal Statistical Society B 57:289",
    ),
    "by": (
        "Benjamini & Yekutieli 2001",
        "The control of the false discovery rate in multiple testing under dependency, "
        "Annals of Statistics 29:1165",
    ),
    "storey": (
        "Storey et al. 2004",
        "Strong control, conservative point estimation and simultaneous conservative consistency "
        "of false discovery rates: a unified approach, "
        "Journal of the Royal Statistical Society B 66:187",
    ),
    "hierarchical": (
        "Benjamini & Bogomolov 2014",
        "Selective inference on multiple families of hypotheses, "
        "Journal of the Royal Statistical Society B 76:297",
    ),
    "simes": (
        "Simes 1986",
        "An improved Bonferroni procedure for multiple tests of significance, Biometrika 73:751",
    ),
    "tmm": (
        "Robinson & Oshlack 2010",
        "A scaling normalization method for differential expression analysis of RNA-seq data, "
        "Genome Biology 11:R25",
    ),
    "edger": (
        "Robinson et al. 2010",
        "edgeR: a Bioconductor package for differential expression analysis of digital gene "
        "expression data, Bioinformatics 26:139",
    ),
    "median_of_ratios": (
        "Anders & Huber 2010",
        "Differential expression analysis for sequence count data, Genome Biology 11:R106",
    ),
    "voom": (
        "Law et al. 2014",
        "voom: precision weights unlock linear model analysis tools for RNA-seq read counts, "
        "Genome Biology 15:R29",
    ),
    "block_correlation": (
        "Smyth et al. 2005",
        "Use of within-array replicate spots for assessing differential expression in microarray "
        "experiments, Bioinformatics 21:2067",
    ),
    "moderation": (
        "Smyth 2004",
        "Linear models and empirical Bayes methods for assessing differential expression in "
        "microarray experiments, Statistical Applications in Genetics and Molecular Biology 3:3",
    ),
    "robust_moderation": (
        "Phipson et al. 2016",
        "Robust hyperparameter estimation protects against hypervariable genes and improves power "
        "to detect differential expression, Annals of Applied Statistics 10:946",
    ),
    "spearman_exact": (
        "Kendall et al. 1939",
        "The distribution of Spearman's coefficient of rank correlation in a universe in which all "
        "rankings occur an equal number of times, Biometrika 30:251",
    ),
    "spearman_interval": (
        "Fieller et al. 1957",
        "Tests for rank correlation coefficients. I, Biometrika 44:470",
    ),
    "moment_dispersion": (
        "Breslow 1984",
        "Extra-Poisson variation in log-linear models, Applied Statistics 33:38",
    ),
    "statsmodels": (
        "Seabold & Perktold 2010",
        "statsmodels: econometric and statistical modeling with Python, "
        "Proceedings of the 9th Python in Science Conference, 92",
    ),
    "pivotal": (
        "Weerahandi 1993",
        "Generalized confidence intervals, Journal of the American Statistical Association 88:899",
    ),
    "deseq2": (
        "Love et al. 2014",
        "Moderated estimation of fold change and dispersion for RNA-seq data with DESeq2, "
        "Genome Biology 15:550",
    ),
    "pydeseq2": (
        "Muzellec et al. 2023",
        "PyDESeq2: a python package for bulk RNA-seq differential expression analysis, "
        "Bioinformatics 39:btad547",
    ),
    "poisson_lognormal": (
        "Aitchison & Ho 1989",
        "The multivariate Poisson-log normal distribution, Biometrika 76:643",
    ),
    "debiased_precision": (
        "Jankova & van de Geer 2015",
        "Confidence intervals for high-dimensional inverse covariance estimation, Electronic "
        "Journal of Statistics 9:1205",
    ),
    "nuts": (
        "Hoffman & Gelman 2014",
        "The No-U-Turn sampler: adaptively setting path lengths in Hamiltonian Monte Carlo, "
        "Journal of Machine Learning Research 15:1593",
    ),
    "nutpie": (
        "Seyboldt et al. 2026",
        "Preconditioning Hamiltonian Monte Carlo by minimizing Fisher divergence, arXiv:2603.18845",
    ),
    "pymc": (
        "Abril-Pla et al. 2023",
        "PyMC: a modern, and comprehensive probabilistic programming framework in Python, "
        "PeerJ Computer Science 9:e1516",
    ),
    "arviz": (
        "Kumar et al. 2019",
        "ArviZ a unified library for exploratory analysis of Bayesian models in Python, "
        "Journal of Open Source Software 4:1143",
    ),
    "r_hat": (
        "Vehtari et al. 2021",
        "Rank-normalization, folding, and localization: an improved R-hat for assessing "
        "convergence of MCMC, Bayesian Analysis 16:667",
    ),
    "bfmi": (
        "Betancourt 2016",
        "Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo, "
        "arXiv:1604.00695",
    ),
    "lkj": (
        "Lewandowski et al. 2009",
        "Generating random correlation matrices based on vines and extended onion method, "
        "Journal of Multivariate Analysis 100:1989",
    ),
    "separation": (
        "Barnard, McCulloch & Meng 2000",
        "Modeling covariance matrices in terms of standard deviations and correlations, "
        "with application to shrinkage, Statistica Sinica 10:1281",
    ),
    "interweaving": (
        "Yu & Meng 2011",
        "To center or not to center: that is not the question - an ancillarity-sufficiency "
        "interweaving strategy (ASIS) for boosting MCMC efficiency, "
        "Journal of Computational and Graphical Statistics 20:531",
    ),
    "rope": (
        "Kruschke 2018",
        "Rejecting or accepting parameter values in Bayesian estimation, "
        "Advances in Methods and Practices in Psychological Science 1:270",
    ),
    "nearest": (
        "Higham 2002",
        "Computing the nearest correlation matrix - a problem from finance, "
        "IMA Journal of Numerical Analysis 22:329",
    ),
    "repeated_measures": (
        "Bakdash & Marusich 2017",
        "Repeated measures correlation, Frontiers in Psychology 8:456",
    ),
    "metacells": (
        "Morabito et al. 2023",
        "hdWGCNA identifies co-expression networks in high-dimensional transcriptomics data, "
        "Cell Reports Methods 3:100498",
    ),
    "hallmark": (
        "Liberzon et al. 2015",
        "The Molecular Signatures Database Hallmark gene set collection, Cell Systems 1:417",
    ),
    "gseapy": (
        "Fang et al. 2023",
        "GSEApy: a comprehensive package for performing gene set enrichment analysis in Python, "
        "Bioinformatics 39:btac757",
    ),
    "gsea": (
        "Subramanian et al. 2005",
        "Gene set enrichment analysis: a knowledge-based approach for interpreting genome-wide "
        "expression profiles, PNAS 102:15545",
    ),
    "leiden": (
        "Traag et al. 2019",
        "From Louvain to Leiden: guaranteeing well-connected communities, "
        "Scientific Reports 9:5233",
    ),
    "wgcna": (
        "Langfelder & Horvath 2008",
        "WGCNA: an R package for weighted correlation network analysis, BMC Bioinformatics 9:559",
    ),
    "preservation": (
        "Langfelder et al. 2011",
        "Is my network module preserved and reproducible?, PLoS Computational Biology 7:e1001057",
    ),
}


DOIS = {
    "debiased_precision": "10.1214/15-EJS1031",
    "cscore": "10.1038/s41467-023-40503-7",
    "npmle": "10.1214/aoms/1177728066",
    "shrinkage": "10.1093/biostatistics/kxw041",
    "reml": "10.1080/01621459.1977.10480998",
    "jackknife": "10.1093/biomet/61.1.1",
    "bootstrap": "10.1214/aos/1176344552",
    "satterthwaite": "10.2307/3002019",
    "pustejovsky_tipton": "10.1080/07350015.2016.1247004",
    "holm": "10.2307/4615733",
    "mackinnon_white": "10.1016/0304-4076(85)90158-7",
    "welch": "10.1093/biomet/34.1-2.28",
    "phipson_smyth": "10.2202/1544-6115.1585",
    "i2": "10.1002/sim.1186",
    "bh": "10.1111/j.2517-6161.1995.tb02031.x",
    "by": "10.1214/aos/1013699998",
    "simes": "10.1093/biomet/73.3.751",
    "tmm": "10.1186/gb-2010-11-3-r25",
    "edger": "10.1093/bioinformatics/btp616",
    "median_of_ratios": "10.1186/gb-2010-11-10-r106",
    "voom": "10.1186/gb-2014-15-2-r29",
    "block_correlation": "10.1093/bioinformatics/bti270",
    "moderation": "10.2202/1544-6115.1027",
    "robust_moderation": "10.1214/16-AOAS920",
    "deseq2": "10.1186/s13059-014-0550-8",
    "arviz": "10.21105/joss.01143",
    "pymc": "10.7717/peerj-cs.1516",
    "r_hat": "10.1214/20-BA1221",
    "lkj": "10.1016/j.jmva.2009.04.008",
    "interweaving": "10.1198/jcgs.2011.203main",
    "rope": "10.1177/2515245918771304",
    "nearest": "10.1093/imanum/22.3.329",
    "repeated_measures": "10.3389/fpsyg.2017.00456",
    "hallmark": "10.1016/j.cels.2015.12.004",
    "gseapy": "10.1093/bioinformatics/btac757",
    "gsea": "10.1073/pnas.0506580102",
    "leiden": "10.1038/s41598-019-41695-z",
    "wgcna": "10.1186/1471-2105-9-559",
    "preservation": "10.1371/journal.pcbi.1001057",
}


def cite(*keys: str) -> str:
    """Return the short forms of some references, e.g. ``"Su et al. 2023; Miller 1974"``."""
    return "; ".join(REFERENCES[key][0] for key in keys)


def cited(texts: Iterable[str]) -> list[str]:
    """Return the full references whose short forms appear in some texts, in order of appearance."""
    text = "\n".join(texts)
    found = {text.find(short): f"{short}, {full}" for short, full in REFERENCES.values()}
    return [found[at] for at in sorted(found) if at >= 0]


def bibtex(texts: Iterable[str]) -> str:
    """Return the references whose short forms appear in some texts as BibTeX.

    Parameters
    ----------
    texts : iterable of str

    Returns
    -------
    str
        One entry for each, in order of appearance; the package's own first.
    """
    text = "\n".join(texts)
    places = {key: text.find(short) for key, (short, _) in REFERENCES.items()}
    found = sorted((at, key) for key, at in places.items() if at >= 0)
    return "\n".join([_SOFTWARE, *(_entry(key) for _, key in found)])


_SOFTWARE = f"""@software{{hiercorr,
  title = {{hiercorr: gene-gene correlation from single-cell data as hierarchical models}},
  author = {{{{The hiercorr authors}}}},
  version = {{{__version__}}}
}}
"""


def _entry(key: str) -> str:
    """Write one reference as BibTeX: ``Authors year`` and ``Title, Journal volume:pages``."""
    short, full = REFERENCES[key]
    names, year = short.rsplit(" ", 1)
    several = names.endswith(" et al.")
    authors = " and ".join(names.removesuffix(" et al.").split(" & "))
    fields = {"author": f"{authors} and others" if several else authors, "year": year}
    title, _, source = full.rpartition(", ")
    journal = re.fullmatch(r"(.+) (\d+):([\w-]+)", source)
    if title and journal:
        fields |= {"title": title, "journal": journal[1], "volume": journal[2], "pages": journal[3]}
    else:
        fields |= {"title": full}
    if key in DOIS:
        fields["doi"] = DOIS[key]
    lines = ",\n".join(f"  {name} = {{{_tex(value)}}}" for name, value in fields.items())
    return f"@{'article' if 'journal' in fields else 'misc'}{{{key},\n{lines}\n}}\n"


def _tex(text: str) -> str:
    return re.sub(r"([&%$#_])", r"\\\1", text)
