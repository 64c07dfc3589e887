"""The whole analysis of a gene in a cell type: from a file to a folder with report and tables."""
