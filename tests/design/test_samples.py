"""Columns that describe samples, blocks and repeated donors."""

import pytest

import hiercorr as hc


def test_repeated_donors_are_named(gbm):
    with pytest.warns(
        hc.DataWarning, match="10 samples of 'sample_id' come from 5 values of 'patient_id'"
    ):
        hc.CSCore(gbm, sample="sample_id", depth="total_counts", genes=5)
