"""The part of the page about the map: a cloud to turn, and two pictures of it."""

from .cloud_viewer import MAX_POINTS, viewer_html
from .pictures import data_uri
from .record import RunRecord
from .splat import draw_above, draw_oblique, Scene
from .views import path_axes

_WIDTH_PX = 900


def render(record: RunRecord) -> list[str]:
    """Return the sections as HTML; none for an empty map."""
    n = len(record.cloud)
    if not n or not len(record.trajectory):
        return []
    scene = Scene.of(record.cloud, record.trajectory.positions,
                     path_axes(record.trajectory.T_map_camera))
    above = data_uri(draw_above(scene, _WIDTH_PX))
    oblique = data_uri(draw_oblique(scene, _WIDTH_PX))
    shown = '' if n <= MAX_POINTS else f' {MAX_POINTS // 1000} thousand of its points are shown.'
    return [
        f'<section><h2>Map</h2>{viewer_html(scene)}<p class="hint">Drag to turn, wheel or pinch '
        'to zoom, shift-drag to move, double-click to start over. The line is the path of the '
        f'camera.{shown}</p></section>',
        f'<div class="columns"><section><figure><img src="{above}" alt="The map from above">'
        '<figcaption>From above, without what is higher than the camera. The path begins at the '
        'green dot.</figcaption></figure></section>'
        f'<section><figure><img src="{oblique}" alt="The map seen at an angle"><figcaption>From '
        'behind the path.</figcaption></figure></section></div>']
