# limma's moderated regressions of all genes on one, for validation/benchmarks/pseudobulk.py.
#
#   Rscript limma_target.R EXPRESSION DESIGN GENES SAMPLES COLUMNS KEEP
#
# EXPRESSION (genes x samples) and DESIGN (samples x columns, the target last) are doubles by
# column. Prints the wall time of lmFit and eBayes as JSON; writes moderated t and p to KEEP.

suppressMessages(library(limma))
args <- commandArgs(trailingOnly = TRUE)
n <- as.integer(args[3:5])
y <- matrix(readBin(args[1], "double", n[1] * n[2]), n[1], n[2])
design <- matrix(readBin(args[2], "double", n[2] * n[3]), n[2], n[3])
start <- proc.time()
fit <- eBayes(lmFit(y, design))
seconds <- (proc.time() - start)[["elapsed"]]
writeBin(c(fit$t[, n[3]], fit$p.value[, n[3]]), args[6])
cat(sprintf('{"seconds": %.4f}\n', seconds))
