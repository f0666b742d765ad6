"""A picture to try things with: drawn, so that none is kept in the repository, and as noisy as a photograph."""

import pyvips

WIDTH, HEIGHT = 2400, 1600


def draw(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A JPEG of this size, in pixels: gradients, clouds, rings, and the noise of a sensor."""
    grid = pyvips.Image.xyz(width, height)
    across, down = grid[0] / width, grid[1] / height
    rings = (((grid[0] - width / 3) ** 2 + (grid[1] - height / 2) ** 2) ** 0.5 * 3).sin() * 20  # in degrees
    clouds = sum(pyvips.Image.perlin(width, height, cell_size=size) * (size / 6) for size in (16, 64, 256))
    bands = [across * 200 + rings, down * 180 + 40, (1 - across) * 120 + rings + 90]
    noise = [pyvips.Image.gaussnoise(width, height, sigma=8, mean=0) for _ in bands]
    picture = bands[0].bandjoin(bands[1:]) + clouds + noise[0].bandjoin(noise[1:])
    data: bytes = picture.cast("uchar").copy(interpretation="srgb").jpegsave_buffer(Q=88)
    return data
