# CS-CORE in R on the counts that validation/benchmarks/cscore.py writes.
#
#   Rscript cscore_base.R CHECKOUT COUNTS CELLS GENES KEEP
#
# CHECKOUT is the public repository of the R package, of which the implementation in base R is
# sourced; COUNTS are doubles by column. Prints wall time, CPU time and the peak of memory beyond
# the input as JSON; writes estimates and statistics of the first 300 genes to KEEP.

args <- commandArgs(trailingOnly = TRUE)
for (name in c("CSCORE_IRLS_cpp.R", "CSCORE_IRLS_base.R")) source(file.path(args[1], "R", name))

resident <- function(field) {
  line <- grep(paste0("^", field, ":"), readLines("/proc/self/status"), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) * 1024 / 1e6
}

cells <- as.integer(args[3])
genes <- as.integer(args[4])
x <- matrix(readBin(args[2], "double", cells * genes), cells, genes)
depth <- rowSums(x)
invisible(gc())
before <- resident("VmRSS")
start <- proc.time()
capture.output(out <- CSCORE_IRLS_base(x, depth))
time <- proc.time() - start
peak <- resident("VmHWM") - before
first <- seq_len(min(genes, 300))
writeBin(c(out$est[first, first], out$test_stat[first, first]), args[5])
cat(sprintf(
  '{"wall_s": %.4f, "cpu_s": %.4f, "peak_mb": %.1f}\n',
  time[["elapsed"]], time[["user.self"]] + time[["sys.self"]], peak
))
