"""What is written in a chart, shared by the tests of this folder."""

from xml.etree import ElementTree


def texts(svg: str) -> list[str]:
    tree = ElementTree.fromstring(svg.replace("xlink:href", "href"))
    return [element.text or "" for element in tree.iter("text")]
