"""A result as text."""


def test_text(result, one):
    text = str(result.summary(n=3))
    assert "within" in text
    assert "No. samples:" in text
    assert "Flags:" in text
    assert len(str(one.summary(n=3))) > 200
    assert "<table" in result.summary()._repr_html_()
    assert "12 genes, all pairs" in repr(result)
    assert "target gene0" in repr(one)
    assert "<table" in result._repr_html_()
